"""The whole way from chains by entropy to temperature, where the temperature is known: isotropic noise."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from pythermo import figures, sphere
from pythermo._progress import ProgressBar
from pythermo.estimators.absolute_entropy import kozachenko_leonenko_entropy
from pythermo.estimators.temperature import fit_temperature
from pythermo.figures.calibration import free_energies
from pythermo.reports.sections import Plot, Report, Section, Table
from pythermo.sphere.protocols import FullSpaceName
from pythermo.studies import intervals
from pythermo.studies.chains import stationary_samples
from pythermo.studies.checks import Check, checks_headline, require_passed
from pythermo.studies.gas import GAS_REPLICAS, SIGMA, gas_checks, gas_section, gas_sweep, gibbs_energies
from pythermo.studies.report import write_report
from pythermo.sweeps import files
from pythermo.training.torch_settings import own_settings

# The first and the last learning rate only serve as neighbors in the fit of the temperature.
SPHERE_LRS = np.logspace(-3.25, -0.75, 11)
# Of the published toy; each sphere has draws of its own.
RADII, RADII_REPLICAS = (0.10, 0.42, 1.78, 7.50), 2048
# Replicas by dimension: k-d trees are slow in 16 dimensions.
SPHERE_REPLICAS = {3: 8192, 16: 1024}


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
    with ProgressBar(round(float(np.sum(1.0 / SPHERE_LRS))), progress) as bar:
        bar.describe(f"sphere, D = {dim}")
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
        # In 15 dimensions the neighbors are far: the estimator has a bias, which is the same for all widths
        # of a Gaussian and changes by some 0.1 nats as the cloud starts to feel the sphere. The standard
        # error is sqrt((Var log p + 2) / n), 0.024 nats for 16 384 points.
        shift = shift.sel(lr=small["lr"])
        spread = float(np.abs(shift - shift.mean()).max())
        checks.append(Check(f"D = {dim}: entropy up to a constant", spread, 0.1, "nats"))
        checks.append(Check(f"D = {dim}: that constant", float(shift.mean()), 0.25, "nats"))
    return checks


def free_energy_checks(sweeps: Mapping[float, xr.Dataset]) -> list[Check]:
    """Look for the least F at the T of each learning rate, by the radius of the sphere."""
    checks = []
    for radius, sweep in sweeps.items():
        inner = np.arange(1, sweep.sizes["lr"] - 1)
        misplaced = int((free_energies(sweep, radius).argmin(axis=1)[inner] != inner).sum())
        checks.append(Check(f"r = {radius:g}: least F at another learning rate", misplaced, 0, "rates"))
    return checks


@own_settings(threads=None)
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
    folder = files.writable_folder("out", out)
    spheres = [sphere_sweep(dim, replicas, progress=progress) for dim, replicas in SPHERE_REPLICAS.items()]
    protocols: tuple[FullSpaceName, ...] = ("fixed-elr", "fixed-lr")
    gases = [gas_sweep(protocol, GAS_REPLICAS, progress=progress) for protocol in protocols]
    closed = intervals.closed_form_trials(intervals.REPETITIONS, progress)
    chains = [
        intervals.chain_trials(dim, count, intervals.REPETITIONS, progress)
        for dim, count in intervals.CHAINS.items()
    ]
    checks = [check for one in spheres for check in sphere_checks(one)]
    checks += [check for one in gases for check in gas_checks(one)]
    of_radii = {
        radius: sphere_sweep(3, RADII_REPLICAS, seed, progress) for seed, radius in enumerate(RADII, start=1)
    }
    checks += free_energy_checks(of_radii)
    checks += intervals.closed_form_checks(closed)
    checks += [check for one in chains for check in intervals.chain_checks(one)]
    written = []
    for dataset in (*spheres, *gases):
        kind = dataset.attrs.get("protocol", f"sphere-{dataset.attrs['dim']}")
        written.append(folder / f"{kind}.nc")
        files.write_dataset(written[-1], dataset)
    for name, trials in (
        ("intervals-closed-form", closed),
        *((f"intervals-{one.attrs['dim']}", one) for one in chains),
    ):
        written.append(folder / f"{name}.nc")
        files.write_dataset(written[-1], trials)
    written += figures.save(figures.calibration(spheres, gases), folder / "calibration")
    maps = figures.calibration_gibbs(gases, [gibbs_energies(gas) for gas in gases])
    written += figures.save(maps, folder / "gibbs")
    written += figures.save(figures.calibration_free_energies(of_radii), folder / "free_energies")
    report = calibration_report(spheres, gases, checks)
    sections = [*report.sections, intervals.intervals_section(closed, chains)]
    written += write_report(folder, Report(report.title, sections))
    require_passed(checks)
    return written


def calibration_report(
    spheres: Sequence[xr.Dataset], gases: Sequence[xr.Dataset], checks: Sequence[Check]
) -> Report:
    """Return all that was measured beside theory."""
    return Report(
        "Calibration: isotropic noise, of known temperature",
        [
            checks_headline(checks),
            _plots(spheres, gases),
            *map(_sphere_section, spheres),
            *map(gas_section, gases),
        ],
    )


def _plots(spheres: Sequence[xr.Dataset], gases: Sequence[xr.Dataset]) -> Section:
    from pythermo.reports.plots.studies import beside_theory_plot, radius_plot

    of_spheres = [
        Plot(
            f"{label} on the sphere; at larger η theory is no longer exact.",
            partial(beside_theory_plot, spheres, name),
        )
        for name, label in (("energy", "U"), ("temperature", "T"))
    ]
    of_gases = [Plot("The radius beside that of the ideal gas.", partial(radius_plot, gas)) for gas in gases]
    return Section("Beside theory", plots=[*of_spheres, *of_gases])


def _sphere_section(sweep: xr.Dataset) -> Section:
    words = (
        "T: from the fit to U and S, with its interval, beside lr sigma^2 / 2; the end points have one "
        "neighbor only. Errors beside theory as lr -> 0."
    )
    header = ["η", "U", "error", "S (nats)", "error (nats)", "T", "interval", "error"]
    rows = [_sphere_row(sweep.isel(lr=i)) for i in range(sweep.sizes["lr"])]
    return Section(f"On the sphere, D = {sweep.attrs['dim']}", [words], Table(header, rows))


def _sphere_row(one: xr.Dataset) -> list[str]:
    v = {name: float(value) for name, value in one.variables.items()}
    energy, entropy = v["energy"] / v["energy_theory"] - 1.0, v["entropy"] - v["entropy_theory"]
    temperature = v["temperature"] / v["temperature_theory"] - 1.0
    return [
        f"{v['lr']:.4g}",
        f"{v['energy']:.4g}",
        f"{100 * energy:+.2f} %",
        f"{v['entropy']:.4f}",
        f"{entropy:+.4f}",
        f"{v['temperature']:.4g}",
        f"{v['lower']:.4g} ... {v['upper']:.4g}",
        f"{100 * temperature:+.2f} %",
    ]
