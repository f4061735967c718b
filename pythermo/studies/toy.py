"""The paper's three-dimensional toy, and the thermodynamics of it that the paper does not show."""

from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo import figures, sphere
from pythermo.estimators.absolute_entropy import kozachenko_leonenko_entropy
from pythermo.estimators.temperature import TemperatureFit, fit_power_law, fit_temperature
from pythermo.reports.sections import Fact, Plot, Report, Section, Table
from pythermo.reports.sweeps import power_law_text
from pythermo.sphere.systems import Quadratics
from pythermo.studies.chains import stationary_samples
from pythermo.studies.checks import checks_table, require_passed
from pythermo.studies.report import picture, write_report
from pythermo.studies.theorem import snr_along_meridians, theorem_checks
from pythermo.sweeps import files
from pythermo.training.torch_settings import own_settings

Floats = NDArray[np.float64]

SYSTEMS = {"UP": sphere.underparameterized(), "OP": sphere.overparameterized()}

# arXiv 2505.23489: 80 learning rates, 50 000 steps, measured at 1 ... 99 and 401 log-spaced steps.
_EDGE = np.log10(2.5)
LRS = np.concatenate([np.logspace(-3, 0, 32)[:-1], np.logspace(0, _EDGE, 33)[:-1], np.logspace(_EDGE, 1, 17)])
STEPS = 50_000
MEASURED = np.unique(
    np.concatenate([np.arange(1, 100), np.round(np.geomspace(100, STEPS, 401)).astype(np.int64)])
)
SHOWN_LRS = (2.4e-3, 6.9e-2)  # of the trajectories of figure 4

# Further on, towards 1/2, a step ends ever closer to the great circle where its sample's loss is 0: the
# stationary distribution becomes singular and its entropy falls without bound.
STATIONARY_LRS = np.logspace(-3.0, -0.5, 11)
REPLICAS = 2048


THEOREM = (
    "SNR of the overparameterized toy along meridians, over its two samples, beside "
    "SNR² = (M - P t) / (R (1 - R) (1 - Q t)), t = 1 - w_z²: see pythermo.studies.theorem."
)


def paper_runs(system: Quadratics) -> xr.Dataset:
    """Return the paper's runs of one system: one chain at each of its 80 learning rates.

    Returns
    -------
    xarray.Dataset
        As `pythermo.sphere.simulate`, with the loss above its minimum as ``excess_loss``.
    """
    runs = sphere.simulate(system, LRS, STEPS, start=sphere.PAPER_START, measure_at=MEASURED)
    runs["excess_loss"] = runs["loss"] - system.min_loss
    return runs


def trajectories(system: Quadratics, steps: int = 5000) -> xr.Dataset:
    """Return every iterate of the two runs that figure 4 shows."""
    lrs = [LRS[np.abs(np.log(LRS / lr)).argmin()] for lr in SHOWN_LRS]
    return sphere.simulate(
        system, lrs, steps, start=sphere.PAPER_START, measure_at=np.arange(steps + 1), record=("weights",)
    )


def stationary_states(system: Quadratics, replicas: int = REPLICAS, seed: int = 0) -> xr.Dataset:
    """Measure stationary U and S of many chains against the learning rate.

    Returns
    -------
    xarray.Dataset
        Dimension lr: ``energy``, ``entropy`` in nats with w and -w, which have the same loss, taken for
        one point, and ``effective_samples``.
    """
    energy, entropy, size = [], [], []
    for lr in STATIONARY_LRS:
        found = stationary_samples(system, lr, int(20.0 / lr), sphere.PAPER_START, replicas, seed)
        points = np.where(found.points[:, 2:] < 0.0, -found.points, found.points)
        energy.append(found.energy)
        entropy.append(float(kozachenko_leonenko_entropy(points, geometry="sphere")))
        size.append(found.effective_samples)
    return xr.Dataset(
        {"energy": ("lr", energy), "entropy": ("lr", entropy), "effective_samples": ("lr", size)},
        coords={"lr": STATIONARY_LRS},
    )


def convergence(system: Quadratics, steps: int = 20_000, replicas: int = 64) -> xr.Dataset:
    """Return the final loss of many chains at learning rates around 1."""
    lrs = np.linspace(0.9, 1.1, 41)
    return sphere.simulate(system, lrs, steps, start=sphere.PAPER_START, replicas=replicas, record=("loss",))


def snr_by_distance(system: Quadratics, directions: int = 64) -> xr.Dataset:
    """Return the SNR at points around the pole (0, 0, 1), where both systems have their minimum.

    Returns
    -------
    xarray.Dataset
        ``snr`` by ``distance`` (from 1e-7 to 1, in radians) and ``direction``.
    """
    distance = np.logspace(-7, 0, 36)
    angle = 2.0 * np.pi * (np.arange(directions) + 0.5) / directions
    around = np.sin(distance)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    height = np.broadcast_to(np.cos(distance)[:, None, None], (*around.shape[:2], 1))
    points = np.concatenate([around, height], axis=-1).reshape(-1, 3)
    found = sphere.simulate(
        system, LRS[0], 1, start=points, replicas=len(points), measure_at=[0], record=("snr",)
    )
    snr = found["snr"].values.reshape(len(distance), directions)
    return xr.Dataset({"snr": (("distance", "direction"), snr)}, coords={"distance": distance})


def lemma_slope(snr: xr.Dataset, below: float = 1e-2) -> float:
    """Return the power of the distance that the mean SNR follows near the minimum: Lemma 1 says 1 or 0."""
    near = snr["snr"].mean("direction").where(snr["distance"] < below, drop=True)
    return fit_power_law(near["distance"].values, near.values).exponent


@own_settings(threads=None)
def reproduce_toy(out: str | Path) -> list[Path]:
    """Run the toy, write Datasets, figures and a summary into a folder.

    Returns
    -------
    list of Path
        ``up.nc`` and ``op.nc`` (the paper's runs), ``stationary.nc``, ``figure4``, ``figure5``,
        ``thermodynamics`` and ``theorem1`` as PNG and PDF, ``summary.md`` and ``report.html``.

    Raises
    ------
    CalibrationError
        After all is written, if the SNR is not that of Theorem 1's closed form.
    """
    folder = files.writable_folder("out", out)
    runs = {name: paper_runs(system) for name, system in SYSTEMS.items()}
    paths = {name: trajectories(system) for name, system in SYSTEMS.items()}
    states = stationary_states(SYSTEMS["UP"])
    fit = fit_temperature(states["lr"].values, states["energy"].values, states["entropy"].values)
    threshold = convergence(SYSTEMS["OP"])
    snr = {name: snr_by_distance(system) for name, system in SYSTEMS.items()}
    meridians = snr_along_meridians()
    checks = theorem_checks(meridians)

    written = []
    for name, dataset in (*((name.lower(), run) for name, run in runs.items()), ("stationary", states)):
        written.append(folder / f"{name}.nc")
        files.write_dataset(written[-1], dataset)
    spheres, along = figures.toy_spheres(SYSTEMS, paths), figures.toy_meridians(meridians)
    written += figures.save(spheres, folder / "figure4")
    written += figures.save(figures.toy_runs(runs), folder / "figure5")
    written += figures.save(
        figures.toy_thermodynamics(states, fit, threshold, snr), folder / "thermodynamics"
    )
    written += figures.save(along, folder / "theorem1")
    report = toy_report(runs, states, fit, threshold, snr)
    pictures = [picture(spheres, "SGD on two spheres colored by the loss.")]
    theorem = [picture(along, "SNR along meridians: points measured, lines by Theorem 1.")]
    sections = [
        *report.sections,
        Section("Theorem 1's closed form", [THEOREM], checks_table(checks), pictures=theorem),
        Section("Trajectories", pictures=pictures),
    ]
    written += write_report(folder, Report(report.title, sections))
    require_passed(checks)
    return written


def toy_report(
    runs: dict[str, xr.Dataset],
    states: xr.Dataset,
    fit: TemperatureFit,
    threshold: xr.Dataset,
    snr: dict[str, xr.Dataset],
) -> Report:
    """Return what was found in the toy."""
    last = runs["OP"]["loss"].isel(step=-1, replica=0)
    converged = last["lr"].values[last.values < 1e-31]
    final = threshold["loss"].isel(step=-1).max("replica")
    holds = final["lr"].values[final.values < 1e-31]
    up, op = lemma_slope(snr["UP"]), lemma_slope(snr["OP"])
    paragraphs = [
        f"OP: of the paper's learning rates those up to {converged.max():.4g} reach machine zero; around 1, "
        f"with {threshold.sizes['replica']} chains each, all chains do up to {holds.max():.4g}.",
        f"Lemma 1, SNR against the distance from the minimum: slope {up:.4f} for UP (1 expected), {op:.4f} "
        "for OP (0 expected).",
        f"UP, stationary: {power_law_text(fit)}. S in nats, with w and -w taken for one point.",
    ]
    rows = [
        [f"{lr:.4g}", f"{energy:.6g}", f"{entropy:.3f}", f"{t:.3g}", f"{lower:.3g} ... {upper:.3g}"]
        for lr, energy, entropy, t, lower, upper in zip(
            states["lr"].values,
            states["energy"].values,
            states["entropy"].values,
            fit.temperature,
            fit.lower,
            fit.upper,
            strict=True,
        )
    ]
    table = Table(["η", "U", "S", "T", "interval"], rows)
    facts = [
        Fact("OP converges up to η", f"{holds.max():.4g}", f"all of {threshold.sizes['replica']} chains"),
        Fact("Lemma 1, UP", f"SNR ∝ distance^{up:.4f}", "1 expected"),
        Fact("Lemma 1, OP", f"SNR ∝ distance^{op:.4f}", "0 expected"),
    ]
    found = Section("What was found", paragraphs, table, facts)
    return Report("The three-dimensional toy", [found, _plots(runs, states, fit)])


def _plots(runs: dict[str, xr.Dataset], states: xr.Dataset, fit: TemperatureFit) -> Section:
    from pythermo.reports.plots import studies

    plots = [
        Plot("Stationary U.", partial(studies.toy_state_plot, states, "energy", "loss U")),
        Plot("Stationary S.", partial(studies.toy_state_plot, states, "entropy", "entropy S (nats)")),
        Plot("The temperature at which SGD minimizes F.", partial(studies.toy_temperature_plot, fit)),
        Plot("One chain at each of the paper's learning rates.", partial(studies.toy_losses_plot, runs)),
    ]
    return Section("Against the learning rate", plots=plots)
