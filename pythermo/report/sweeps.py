"""The report on the sweeps of one or more setups."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.analysis.regimes import Regime
from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import shown_error
from pythermo.analysis.temperatures import Analysis
from pythermo.config.preset import FIGURE_K, PublishedLaw
from pythermo.estimators.temperature import PowerLaw, TemperatureFit
from pythermo.report.sections import Report, Section, Table
from pythermo.training.quantities import QUANTITIES


def sweeps_report(setups: Sequence[Setup], k: int = FIGURE_K) -> Report:
    """Return what was found in some setups, a section each."""
    words = (
        f"U: full training loss; S: entropy of the last window, k = {k}, up to a constant common to a "
        "sweep; T: the temperature at which SGD at η minimizes U - T S. U and S are means over the last "
        "measurements of a run, ± their standard deviation; of several seeds, the mean over these ± its "
        "standard error. The SNR is that of the mean squares, around the full gradient that each sweep "
        "names. Regimes: convergence, U and S still fall; equilibrium; jump, off the lower convex hull of "
        "U(S); chaos, U is above the loss of the best constant prediction; mixed, no regime has more than "
        "half of the seeds."
    )
    return Report(
        "Thermodynamics of SGD", [Section(paragraphs=[words]), *(_section(one, k) for one in setups)]
    )


def _section(setup: Setup, k: int) -> Section:
    analysis, preset = setup.analysis, setup.preset
    sentences = [f"Power law: {power_law_text(analysis.fit)}."]
    if preset.published is not None:
        law = preset.published
        sentences.append(f"Published: T = {law.prefactor:.2g} · η^{law.exponent:.2f}.")
    sentences.append(f"Learning rates of the fit: {analysis.range_of_fit}.")
    seeds = setup.dataset.sizes["seed"]
    if seeds > 1:
        sentences.append(f"Seeds of each learning rate: {seeds}.")
    uniform = float(setup.baseline["uniform_entropy"].sel(k=k))
    sentences.append(
        f"Uniform on the sphere: U = {float(setup.baseline['uniform_loss']):.4g}, S = {uniform:.0f}."
    )
    sentences.append(_gradient_law_text(setup.gradient_law.law, preset.published_gradients))
    sentences.append(f"Full gradient of the SNR: {analysis.full_gradient}.")
    return Section(setup.title, [" ".join(sentences)], temperature_table(analysis))


def power_law_text(fit: TemperatureFit) -> str:
    """Return the power law of a fit with the standard errors of its parameters."""
    if not np.isfinite(fit.exponent_stderr):
        return f"none, for {fit.fitted.sum()} points between the first and the last are too few"
    return (
        f"T = ({fit.prefactor:.2e} ± {fit.prefactor_stderr:.1e}) · η^"
        f"({fit.exponent:.2f} ± {fit.exponent_stderr:.2f})"
    )


def temperature_table(analysis: Analysis) -> Table:
    """Return the table of η, U, S, T, its interval and the SNR, with remarks on the points of the fit."""
    unit = QUANTITIES["entropy"].unit
    header = ["η", "U", f"S ({unit})", "T", "interval of T", "SNR", "regime", "remark"]
    values = analysis.stationary
    errors = {name: shown_error(values, name) for name in ("energy", "entropy")}
    rows = []
    for index in range(values.sizes["lr"]):
        one = values.isel(lr=index)
        u, s = (f"{errors[name][index]:{form}}" for name, form in (("energy", ".2g"), ("entropy", ".0f")))
        snr_error = float(one["snr_error"])
        rows.append(
            [
                f"{float(one['lr']):.4g}",
                f"{float(one['energy']):.4g} ± {u}",
                f"{float(one['entropy']):.0f} ± {s}",
                *_temperature_cells(analysis.fit, float(one["lr"])),
                f"{float(one['snr']):.3g}" + (f" ± {snr_error:.1g}" if np.isfinite(snr_error) else ""),
                _regime_cell(one),
                _remark(analysis.fit, float(one["lr"])),
            ]
        )
    return Table(header, rows)


def _temperature_cells(fit: TemperatureFit, lr: float) -> list[str]:
    found: NDArray[np.intp] = np.flatnonzero(fit.lr == lr)
    if not len(found):
        return ["", ""]
    i = found[0]
    return [f"{fit.temperature[i]:.3g}", f"{fit.lower[i]:.3g} ... {fit.upper[i]:.3g}"]


def _regime_cell(one: xr.Dataset) -> str:
    share = float(one["regime_share"])
    return str(one["regime"].item()) + (
        "" if share == 1.0 or one["regime"] == Regime.MIXED else f" ({share:.0%} of seeds)"
    )


def _remark(fit: TemperatureFit, lr: float) -> str:
    if lr in fit.excluded:
        return "left out: U or S is not known"
    if lr not in fit.lr:
        return "outside the fit"
    feasible = fit.feasible[np.flatnonzero(fit.lr == lr)[0]]
    return "" if feasible else "above the convex hull: no T makes it the minimizer"


def _gradient_law_text(measured: PowerLaw, published: PublishedLaw | None) -> str:
    text = f"Gradients: mean |g| = {measured.prefactor:.2g} · |G|^{measured.exponent:.2f}"
    if published is None:
        return f"{text}."
    return f"{text}; published: {published.prefactor:.2g} · |G|^{published.exponent:.2f}."
