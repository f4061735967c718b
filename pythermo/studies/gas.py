"""Isotropic noise in full space with weight decay, an ideal gas: measured beside theory."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo import sphere
from pythermo._progress import ProgressBar
from pythermo.estimators.absolute_entropy import kozachenko_leonenko_entropy
from pythermo.reports.sections import Section, Table
from pythermo.sphere.protocols import FullSpaceName
from pythermo.studies.chains import stationary_samples
from pythermo.studies.checks import Check

Floats = NDArray[np.float64]

SIGMA = 1.0
GAS_DIM, GAS_REPLICAS = 3, 1024
GAS_GRIDS = {
    "fixed-elr": (np.logspace(-2.0, -1.0, 5), np.logspace(-3.5, -1.5, 5)),
    "fixed-lr": (np.logspace(-2.0, -1.0, 5), np.logspace(-2.5, -1.0, 5)),
}
# arXiv 2511.07308, D = 3: slopes of the entropy by the logarithm of lr and of weight decay.
THEORY_SLOPES = {"fixed-elr": {"weight_decay": -1.0}, "fixed-lr": {"lr": 1.0, "weight_decay": 0.0}}
PUBLISHED_SLOPES = {
    "fixed-elr": {"weight_decay": -0.9989},
    "fixed-lr": {"lr": 1.0139, "weight_decay": 0.0131},
}


def gas_sweep(protocol: FullSpaceName, replicas: int, seed: int = 0, progress: bool = True) -> xr.Dataset:
    """Measure U, S and the radius of isotropic noise in full space against lr and weight decay.

    Parameters
    ----------
    protocol : {"fixed-lr", "fixed-elr"}
        The step size.
    replicas, seed, progress
        As in `pythermo.studies.calibration.sphere_sweep`.

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
    with ProgressBar(energy.size, progress) as bar:
        bar.describe(f"full space, {protocol}")
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
    centered = np.log(gas[along]) - np.log(gas[along]).mean()
    return float(((gas["entropy"] * centered).sum(along) / (centered**2).sum()).mean())


def gibbs_energies(gas: xr.Dataset) -> Floats:
    """Return ``U - T S + p V`` of each cell (second index) at the T and p of each cell (first index)."""
    stacked = gas.stack(cell=("lr", "weight_decay"))
    volume = stacked["radius"].values ** 2 / 2.0
    temperature, pressure = stacked["temperature"].values[:, None], stacked["weight_decay"].values[:, None]
    energies: Floats = stacked["energy"].values - temperature * stacked["entropy"].values + pressure * volume
    return energies


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


def gas_section(gas: xr.Dataset) -> Section:
    """Return slopes and all cells of one protocol, for a report."""
    protocol = gas.attrs["protocol"]
    slopes = ", ".join(
        f"dS/dlog({along}) = {entropy_slope(gas, along):.4f} (theory {theory:g}, "
        f"published {PUBLISHED_SLOPES[protocol][along]})"
        for along, theory in THEORY_SLOPES[protocol].items()
    )
    rows = [_row(gas.isel(lr=i, weight_decay=j)) for i, j in np.ndindex(gas["radius"].shape)]
    table = Table(["η", "λ", "T", "U", "S (nats)", "r", "r / theory"], rows)
    return Section(f"In full space, {protocol}", [f"{slopes}."], table)


def _row(one: xr.Dataset) -> list[str]:
    v = {name: float(value) for name, value in one.variables.items()}
    return [
        f"{v['lr']:.3g}",
        f"{v['weight_decay']:.3g}",
        f"{v['temperature']:.3g}",
        f"{v['energy']:.4g}",
        f"{v['entropy']:.4f}",
        f"{v['radius']:.4g}",
        f"{v['radius'] / v['radius_theory']:.4f}",
    ]
