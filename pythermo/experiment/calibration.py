"""Isotropic noise on the sphere and in full space, where U, S and T are known: measured beside theory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from pythermo import sphere
from pythermo.experiment import storage
from pythermo.experiment.stationary import stationary_samples
from pythermo.low_dimension import kozachenko_leonenko_entropy
from pythermo.sphere.protocols import FullSpaceName
from pythermo.temperature import fit_temperature

Floats = NDArray[np.float64]

SIGMA = 1.0

# The first and the last learning rate only serve as neighbours in the fit of the temperature.
SPHERE_LRS = np.logspace(-3.25, -0.75, 11)
# Replicas by dimension: k-d trees are slow in 16 dimensions.
SPHERE_REPLICAS = {3: 8192, 16: 1024}

GAS_DIM, GAS_REPLICAS = 3, 1024
GAS_GRIDS = {
    "fixed-elr": (np.logspace(-1.75, -1.0, 4), np.logspace(-3.0, -1.5, 4)),
    "fixed-lr": (np.logspace(-1.75, -1.0, 4), np.logspace(-2.25, -1.0, 4)),
}
# arXiv 2511.07308, D = 3: slopes of the entropy by the logarithm of lr and of weight decay.
THEORY_SLOPES = {"fixed-elr": {"weight_decay": -1.0}, "fixed-lr": {"lr": 1.0, "weight_decay": 0.0}}
PUBLISHED_SLOPES = {
    "fixed-elr": {"weight_decay": -0.9989},
    "fixed-lr": {"lr": 1.0139, "weight_decay": 0.0131},
}


class CalibrationError(RuntimeError):
    """A measured value lies farther from theory than its tolerance."""


@dataclass(frozen=True)
class Check:
    """A measured value beside theory: ``error`` must not be beyond ``tolerance``, in the unit named."""

    name: str
    error: float
    tolerance: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; not so for NaN."""
        return abs(self.error) <= self.tolerance


def sphere_sweep(dim: int, replicas: int, seed: int = 0, progress: bool = True) -> xr.Dataset:
    """Measure U, S and T of isotropic noise on the unit sphere against the learning rate.

    Parameters
    ----------
    dim : int
        The dimension D.
    replicas : int
        Chains per learning rate.
    seed : int
        Of the noise.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    xarray.Dataset
        Dimension lr: ``energy``, ``entropy`` (nats), ``temperature`` with ``lower`` and ``upper``, each
        with its value ``*_theory`` as lr -> 0, and ``effective_samples`` behind energy and entropy.
    """
    system = sphere.IsotropicNoise(dim, SIGMA)
    minimum = -np.eye(dim)[-1]
    energy, entropy, size = [], [], []
    # Small learning rates take the longest: the bar counts correlation times in steps.
    with tqdm(total=round(float(np.sum(1.0 / SPHERE_LRS))), disable=None if progress else True) as bar:
        bar.set_description(f"sphere, D = {dim}")
        for lr in SPHERE_LRS:
            found = stationary_samples(system, lr, int(10.0 / lr), minimum, replicas, seed)
            energy.append(found.energy)
            entropy.append(float(kozachenko_leonenko_entropy(found.points, geometry="sphere")))
            size.append(found.effective_samples)
            bar.update(round(1.0 / lr))
    fit = fit_temperature(SPHERE_LRS, energy, entropy)
    expected = system.temperature(SPHERE_LRS)
    return xr.Dataset(
        {
            "energy": ("lr", energy),
            "energy_theory": ("lr", sphere.von_mises_fisher_energy(expected, dim)),
            "entropy": ("lr", entropy),
            "entropy_theory": ("lr", sphere.von_mises_fisher_entropy(expected, dim)),
            "temperature": ("lr", fit.temperature),
            "lower": ("lr", fit.lower),
            "upper": ("lr", fit.upper),
            "temperature_theory": ("lr", expected),
            "effective_samples": ("lr", size),
        },
        coords={"lr": SPHERE_LRS},
        attrs={"dim": dim, "sigma": SIGMA, "replicas": replicas, "seed": seed},
    )


def gas_sweep(protocol: FullSpaceName, replicas: int, seed: int = 0, progress: bool = True) -> xr.Dataset:
    """Measure U, S and the radius of isotropic noise in full space against lr and weight decay.

    Parameters
    ----------
    protocol : {"fixed-lr", "fixed-elr"}
        The step size.
    replicas, seed, progress
        As in `sphere_sweep`.

    Returns
    -------
    xarray.Dataset
        Dimensions lr, weight_decay: ``energy``, ``entropy`` (nats, of the direction plus
        (D - 1) log radius), ``radius`` (root mean square), ``temperature`` and ``radius_theory``.
    """
    system = sphere.IsotropicNoise(GAS_DIM, SIGMA)
    lrs, decays = GAS_GRIDS[protocol]
    shape = (len(lrs), len(decays))
    energy, entropy, radius = np.empty(shape), np.empty(shape), np.empty(shape)
    theory = [[sphere.ideal_gas(lr, decay, SIGMA, GAS_DIM, protocol) for decay in decays] for lr in lrs]
    with tqdm(total=energy.size, disable=None if progress else True) as bar:
        bar.set_description(f"full space, {protocol}")
        for cell in np.ndindex(shape):
            lr, decay = float(lrs[cell[0]]), float(decays[cell[1]])
            rate, effective = _relaxation(protocol, lr, decay)
            found = stationary_samples(
                system,
                lr,
                int(10.0 / rate),
                -np.eye(GAS_DIM)[-1],
                replicas,
                seed,
                effective_lr=effective,
                protocol=protocol,
                weight_decay=decay,
            )
            norms = np.linalg.norm(found.points, axis=1)
            energy[cell] = found.energy
            radius[cell] = np.sqrt((norms**2).mean())
            directions = found.points / norms[:, None]
            on_sphere = kozachenko_leonenko_entropy(directions, geometry="sphere")
            entropy[cell] = on_sphere + (GAS_DIM - 1) * np.log(norms).mean()
            bar.update()
    both = ("lr", "weight_decay")
    return xr.Dataset(
        {
            "energy": (both, energy),
            "entropy": (both, entropy),
            "radius": (both, radius),
            "radius_theory": (both, [[float(one.radius) for one in row] for row in theory]),
            "temperature": (both, [[float(one.temperature) for one in row] for row in theory]),
        },
        coords={"lr": lrs, "weight_decay": decays},
        attrs={"dim": GAS_DIM, "sigma": SIGMA, "replicas": replicas, "seed": seed, "protocol": protocol},
    )


def _relaxation(protocol: FullSpaceName, lr: float, decay: float) -> tuple[float, float]:
    """Return the rate at which r^2 relaxes and the effective learning rate lr / r*^2, per step."""
    if protocol == "fixed-elr":
        return lr**2 * SIGMA**2 * (GAS_DIM - 1), lr
    return 4.0 * lr * decay, float(lr / sphere.ideal_gas(lr, decay, SIGMA, GAS_DIM, protocol).radius ** 2)


def entropy_slope(gas: xr.Dataset, along: str) -> float:
    """Return the slope of the entropy by the logarithm of ``along``, averaged over the other axis."""
    centred = np.log(gas[along]) - np.log(gas[along]).mean()
    return float(((gas["entropy"] * centred).sum(along) / (centred**2).sum()).mean())


def gibbs_energies(gas: xr.Dataset) -> Floats:
    """Return ``U - T S + p V`` of each cell (second index) at the T and p of each cell (first index)."""
    stacked = gas.stack(cell=("lr", "weight_decay"))
    volume = stacked["radius"].values ** 2 / 2.0
    temperature, pressure = stacked["temperature"].values[:, None], stacked["weight_decay"].values[:, None]
    energies: Floats = stacked["energy"].values - temperature * stacked["entropy"].values + pressure * volume
    return energies


def sphere_checks(sweep: xr.Dataset) -> list[Check]:
    """Compare U, S and T on the sphere with theory where the bias of order lr is small enough."""
    dim = int(sweep.attrs["dim"])
    small = sweep.isel(lr=slice(1, -1)).where((sweep["lr"] < 0.0317), drop=True)
    checks = []
    for name, tolerance in (("energy", 0.02), ("temperature", 0.05)):
        error = small[name] / small[f"{name}_theory"] - 1.0
        worst = float(error[int(np.abs(error.values).argmax())])
        checks.append(Check(f"D = {dim}: {name} for lr <= 0.032", 100 * worst, 100 * tolerance, "%"))
    shift = sweep["entropy"] - sweep["entropy_theory"]
    if dim == 3:
        for lr in (1e-3, 1e-2, 1e-1):
            apart = float(shift.sel(lr=lr, method="nearest"))
            checks.append(Check(f"D = 3: entropy at T = {lr / 2:g}", apart, 0.05, "nats"))
    else:
        # In 15 dimensions the neighbours are far: the estimator has a bias, which is the same for all widths
        # of a Gaussian and changes by some 0.1 nats as the cloud starts to feel the sphere. The standard
        # error is sqrt((Var log p + 2) / n), 0.024 nats for 16 384 points.
        shift = shift.sel(lr=small["lr"])
        spread = float(np.abs(shift - shift.mean()).max())
        checks.append(Check(f"D = {dim}: entropy up to a constant", spread, 0.1, "nats"))
        checks.append(Check(f"D = {dim}: that constant", float(shift.mean()), 0.25, "nats"))
    return checks


def gas_checks(gas: xr.Dataset) -> list[Check]:
    """Compare radius, entropy slopes and the place of the least Gibbs energy with theory."""
    protocol = gas.attrs["protocol"]
    # Theory is the limit of small learning rates; the largest here, 0.1, is 2.3 % away from it.
    error = float(np.abs(gas["radius"] / gas["radius_theory"] - 1.0).max())
    checks = [Check(f"{protocol}: radius", 100 * error, 3.0, "%")]
    for along, slope in THEORY_SLOPES[protocol].items():
        found = entropy_slope(gas, along)
        checks.append(Check(f"{protocol}: dS/dlog({along}) = {found:.4f}", found - slope, 0.03, "1"))
    energies = gibbs_energies(gas)
    misplaced = int((energies.argmin(axis=1) != np.arange(len(energies))).sum())
    checks.append(Check(f"{protocol}: least Gibbs energies in another cell", misplaced, 0, "cells"))
    return checks


def calibrate(out: str | Path, progress: bool = True) -> list[Path]:
    """Measure everything, write Datasets, figure and summary into a folder, and check it.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    CalibrationError
        After all is written, with the checks that failed.
    """
    from pythermo import figures

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    spheres = [sphere_sweep(dim, replicas, progress=progress) for dim, replicas in SPHERE_REPLICAS.items()]
    protocols: tuple[FullSpaceName, ...] = ("fixed-elr", "fixed-lr")
    gases = [gas_sweep(protocol, GAS_REPLICAS, progress=progress) for protocol in protocols]
    checks = [check for one in spheres for check in sphere_checks(one)]
    checks += [check for one in gases for check in gas_checks(one)]
    written = []
    for dataset in (*spheres, *gases):
        kind = dataset.attrs.get("protocol", f"sphere-{dataset.attrs['dim']}")
        written.append(folder / f"{kind}.nc")
        storage.write_dataset(written[-1], dataset)
    written += figures.save(figures.calibration(spheres, gases), folder / "calibration")
    storage.write_text(folder / "summary.md", summary(spheres, gases, checks))
    failed = [check for check in checks if not check.passed]
    if failed:
        listed = "\n  ".join(
            f"{c.name}: off by {c.error:.3g} {c.unit}, allowed {c.tolerance:g}" for c in failed
        )
        raise CalibrationError(f"{len(failed)} of {len(checks)} checks failed\n  {listed}")
    return [*written, folder / "summary.md"]


def summary(spheres: list[xr.Dataset], gases: list[xr.Dataset], checks: list[Check]) -> str:
    """Return the Markdown tables of all that was measured beside theory."""
    parts = [
        "# Calibration: isotropic noise, of known temperature",
        "| check | error | allowed | |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {c.name} | {c.error:.3g} {c.unit} | {c.tolerance:g} {c.unit} "
            f"| {'passed' if c.passed else '**FAILED**'} |"
            for c in checks
        ),
    ]
    for sweep in spheres:
        parts += [
            f"## On the sphere, D = {sweep.attrs['dim']}",
            "T: from the fit to U and S, with its interval, beside lr sigma^2 / 2; the end points have one "
            "neighbour only. Errors beside theory as lr -> 0.",
            "| η | U | error | S (nats) | error (nats) | T | interval | error |\n"
            "|---|---|---|---|---|---|---|---|\n"
            + "\n".join(_sphere_row(sweep.isel(lr=i)) for i in range(sweep.sizes["lr"])),
        ]
    for gas in gases:
        protocol = gas.attrs["protocol"]
        slopes = ", ".join(
            f"dS/dlog({along}) = {entropy_slope(gas, along):.4f} (theory {theory:g}, "
            f"published {PUBLISHED_SLOPES[protocol][along]})"
            for along, theory in THEORY_SLOPES[protocol].items()
        )
        parts += [
            f"## In full space, {protocol}",
            f"{slopes}.",
            "| η | λ | T | U | S (nats) | r | r / theory |\n|---|---|---|---|---|---|---|\n"
            + "\n".join(_gas_row(gas.isel(lr=i, weight_decay=j)) for i, j in np.ndindex(gas["radius"].shape)),
        ]
    return "\n\n".join(parts) + "\n"


def _sphere_row(one: xr.Dataset) -> str:
    v = {name: float(value) for name, value in one.variables.items()}
    energy, entropy = v["energy"] / v["energy_theory"] - 1.0, v["entropy"] - v["entropy_theory"]
    temperature = v["temperature"] / v["temperature_theory"] - 1.0
    return (
        f"| {v['lr']:.4g} | {v['energy']:.4g} | {100 * energy:+.2f} % | {v['entropy']:.4f} | {entropy:+.4f} "
        f"| {v['temperature']:.4g} | {v['lower']:.4g} ... {v['upper']:.4g} | {100 * temperature:+.2f} % |"
    )


def _gas_row(one: xr.Dataset) -> str:
    v = {name: float(value) for name, value in one.variables.items()}
    return (
        f"| {v['lr']:.3g} | {v['weight_decay']:.3g} | {v['temperature']:.3g} | {v['energy']:.4g} "
        f"| {v['entropy']:.4f} | {v['radius']:.4g} | {v['radius'] / v['radius_theory']:.4f} |"
    )
