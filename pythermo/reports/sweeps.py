"""The report on the sweeps of one or more setups."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.analysis.regimes import Regime
from pythermo.analysis.setup import Setup, Waiting
from pythermo.analysis.stationary import shown_error
from pythermo.analysis.temperatures import NO_EQUILIBRIUM
from pythermo.config.preset import FIGURE_K, PublishedLaw
from pythermo.estimators.temperature import PowerLaw, TemperatureFit
from pythermo.estimators.temperature_estimate import TemperatureEstimate
from pythermo.reports.gas import HOW_TO_READ as GAS_WORDS
from pythermo.reports.gas import gas_headline, gas_sections
from pythermo.reports.headline import advice_on_failures, headline
from pythermo.reports.plots.sections import gas_plot_sections, plot_sections
from pythermo.reports.sections import Fact, Report, Section, Table
from pythermo.reports.thermometers import thermometers_section
from pythermo.training.quantities import QUANTITIES


def sweeps_report(setups: Sequence[Setup], waiting: Sequence[Waiting] = (), k: int = FIGURE_K) -> Report:
    """Return what was found in some setups, and what is waited for; what is not known is said."""
    words = (
        f"U: full training loss; S: entropy of the last window, k = {k}, up to a constant common to a "
        "sweep; T: the temperature at which SGD at η minimizes U - T S. U and S are means over the last "
        "measurements of a run, ± their standard deviation; of several seeds, the mean over these ± its "
        "standard error. The SNR is that of the mean squares, around the full gradient that each sweep "
        "names. T by seeds: the slope of the convex curve through the means of U over those of S, with its "
        "90 % interval over seeds (pythermo.estimate_temperature). Stationary: the drift of U and of S "
        "between the last two quarters is within a tenth of the step to the neighboring learning rates; "
        "else how many iterations more that would take if they settle as 1/t (pythermo.stationarity). "
        "Regimes: convergence, U and S still fall; drift, not stationary, and left out of the fit; "
        "equilibrium; jump, off the lower convex hull of "
        "U(S); chaos, U is above the loss of the best constant prediction; mixed, no regime has more than "
        "half of the seeds."
    )
    lines, gases = [one for one in setups if not one.is_gas], [one for one in setups if one.is_gas]
    sections = [_or_reason(one.title, partial(gas_headline, one)) for one in gases]
    sections += [headline(one) for one in lines] + [_waiting_section(one) for one in waiting]
    sections += gas_plot_sections(gases) + (plot_sections(lines) if lines else [])
    for one in lines:
        sections += [
            _or_reason(f"{one.title}: values", partial(_section, one, k)),
            _or_reason(f"{one.title}: thermometers", partial(_thermometers, one)),
        ]
    for one in gases:
        sections += _tables_or_reason(one)
    how = Section(
        "How to read this", [*([GAS_WORDS] if gases else []), *([words] if lines or not gases else [])]
    )
    return Report("Thermodynamics of SGD", [*sections, how, *map(_configuration, setups)])


def _tables_or_reason(setup: Setup) -> list[Section]:
    try:
        return gas_sections(setup)
    except ValueError:  # which its headline says
        return []


def _or_reason(title: str, make: Callable[[], Section]) -> Section:
    """Return a section, or in its place why it cannot be made."""
    try:
        return make()
    except ValueError as error:
        return Section(title, [f"Not known: {error}."])


def _waiting_section(waiting: Waiting) -> Section:
    progress = waiting.progress
    facts = [Fact("runs with measurements", f"0 of {progress.members}" if progress.members else "0")]
    text = "Nothing has been measured yet; it appears with the first checkpoint of a run."
    return Section(waiting.name, [text], facts=facts, advice=advice_on_failures(progress))


def _thermometers(setup: Setup) -> Section:
    return thermometers_section(setup.title, setup.thermometers)


def _configuration(setup: Setup) -> Section:
    attrs = setup.dataset.attrs
    versions = [
        f"{name} {attrs[f'{name}_version']}" for name in ("pythermo", "torch") if f"{name}_version" in attrs
    ]
    text = f"Folder {setup.name}. Computed with {', '.join(versions) or 'versions that it does not say'}."
    return Section(f"{setup.title}: configuration", [text], code=setup.preset.to_toml(), folded=True)


def _section(setup: Setup, k: int) -> Section:
    analysis, preset = setup.analysis, setup.preset
    sentences = _laws(setup)
    if preset.published is not None:
        law = preset.published
        sentences.append(f"Published: T = {law.prefactor:.2g} · η^{law.exponent:.2f}.")
    sentences.append(f"Learning rates of the fit: {analysis.range_of_fit}.")
    seeds = setup.dataset.sizes["seed"]
    if seeds > 1:
        sentences.append(f"Seeds of each learning rate: {seeds}.")
    if setup.baseline is not None:
        uniform = float(setup.baseline["uniform_entropy"].sel(k=k))
        sentences.append(
            f"Uniform on the sphere: U = {float(setup.baseline['uniform_loss']):.4g}, S = {uniform:.0f}."
        )
    sentences.append(_gradient_law_text(setup.gradient_law.law, preset.published_gradients))
    sentences.append(f"Full gradient of the SNR: {analysis.full_gradient}.")
    sentences.append(f"Stationary: {_stationary_text(setup.analysis.stationarity)}.")
    return Section(f"{setup.title}: values", [" ".join(sentences)], temperature_table(setup))


def _laws(setup: Setup) -> list[str]:
    if not setup.analysis.has_law:
        return [f"Law of T: none, for {NO_EQUILIBRIUM}."]
    return [
        f"Law by seeds: {estimate_text(setup.estimate)}.",
        f"Power law through the lower hull, as published: {power_law_text(setup.analysis.fit)}.",
    ]


def estimate_text(estimate: TemperatureEstimate | str) -> str:
    """Return the law of an estimate with its intervals, and whether U(S) is convex."""
    if isinstance(estimate, str):
        return f"none, {estimate}"
    if not np.isfinite(estimate.exponent):
        return "none, for fewer than two learning rates between the least and the largest S have a T above 0"
    at = f"(η / {estimate.reference_lr:.3g})"
    if estimate.exponent_interval is None or estimate.reference_interval is None:
        return (
            f"T = {estimate.reference_temperature:.2e} · {at}^{estimate.exponent:.2f}, of one seed, whose "
            "scatter says nothing of its error"
        )
    reference, exponent = estimate.reference_interval, estimate.exponent_interval
    return (
        f"T = {estimate.reference_temperature:.2e} [{reference[0]:.2e}, {reference[1]:.2e}] · "
        f"{at}^({estimate.exponent:.2f} [{exponent[0]:.2f}, {exponent[1]:.2f}]), intervals of "
        f"{estimate.confidence:.0%} over {estimate.seeds} seeds; p = {estimate.convexity_p_value:.2g} of so "
        "far a point off a convex U(S)"
    )


def _stationary_text(found: xr.Dataset | str) -> str:
    if isinstance(found, str):
        return f"not known, {found}"
    return (
        f"{int(found['stationary'].sum())} of {found.sizes['lr']} learning rates, by {found.attrs['errors']}"
    )


def power_law_text(fit: TemperatureFit) -> str:
    """Return the power law of a fit; what it calls errors is the scatter of its points around the line."""
    if not np.isfinite(fit.exponent_stderr):
        return f"none, for {fit.fitted.sum()} points between the first and the last are too few"
    return (
        f"T = ({fit.prefactor:.2e} ± {fit.prefactor_stderr:.1e}) · η^"
        f"({fit.exponent:.2f} ± {fit.exponent_stderr:.2f}), ± by the scatter of its points around the line"
    )


def temperature_table(setup: Setup) -> Table:
    """Return the table of η, U, S, T and the SNR, with remarks on the points of the fit."""
    unit = QUANTITIES["entropy"].unit
    header = [
        "η", "U", f"S ({unit})", "T by seeds", "T of the hull", "its interval", "SNR", "stationary", "regime",
        "remark",
    ]  # fmt: skip
    analysis = setup.analysis
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
                _estimate_cell(setup.estimate, float(one["lr"])),
                *_temperature_cells(analysis.fit, float(one["lr"])),
                f"{float(one['snr']):.3g}" + (f" ± {snr_error:.1g}" if np.isfinite(snr_error) else ""),
                _stationary_cell(setup.analysis.stationarity, float(one["lr"])),
                _regime_cell(one),
                _remark(analysis.fit, float(one["lr"])),
            ]
        )
    return Table(header, rows)


def _estimate_cell(estimate: TemperatureEstimate | str, lr: float) -> str:
    if isinstance(estimate, str) or lr not in estimate.lr:
        return ""
    index = int(np.flatnonzero(estimate.lr == lr)[0])
    shown = f"{estimate.temperature[index]:.3g}"
    if estimate.interval is None or not np.isfinite(estimate.interval[index]).all():
        return shown
    low, high = estimate.interval[index]
    return f"{shown} [{low:.3g}, {high:.3g}]"


def _stationary_cell(found: xr.Dataset | str, lr: float) -> str:
    if isinstance(found, str):
        return ""
    one = found.sel(lr=lr)
    lacking = float(one["iterations_lacking"])
    if bool(one["stationary"]):
        return "yes"
    return f"{lacking:.2g} more" if np.isfinite(lacking) else "no"


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
