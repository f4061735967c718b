"""What comes first in a report on a sweep: what was run, what was found, and what to be careful with."""

import numpy as np
import xarray as xr

from pythermo.analysis.regimes import Regime
from pythermo.analysis.setup import Progress, Setup
from pythermo.analysis.stationary import shown_error
from pythermo.analysis.temperatures import NO_EQUILIBRIUM
from pythermo.config.schema import RunConfig
from pythermo.estimators.temperature_estimate import TemperatureEstimate
from pythermo.estimators.trajectory_entropy import FEW_POINTS
from pythermo.reports.sections import Advice, Fact, Section

# Of 8 seeds the interval of an exponent has a half-width of about a sixth: docs/temperature.md.
_MANY_SEEDS = 8
_LEAST_P_VALUE = 0.05


def headline(setup: Setup) -> Section:
    """Return the section that says what a sweep was and what it found, with advice where there is need."""
    try:
        facts, advice = _facts(setup), _advice(setup)
    except ValueError as error:
        facts = [Fact("temperature T", "not known", str(error)), *_fact_of_one(setup)]
        advice = [*_advice_on_seeds(setup), *_advice_on_windows(setup), *advice_on_lost_members(setup)]
    advice = [*advice_on_progress(setup.progress), *advice]
    return Section(setup.title, [described(setup)], facts=facts, advice=advice)


def described(setup: Setup) -> str:
    """Return what was run, in words."""
    run, rates = setup.preset.run, sorted(setup.preset.learning_rates)
    if "config" in setup.dataset.attrs:
        run = RunConfig.from_toml(setup.dataset.attrs["config"])
    training, images = run.training, run.data
    per_class = "" if images.samples_per_class is None else f", {images.samples_per_class} images per class"
    noise = f", {images.label_noise:.0%} of the labels redrawn" if images.label_noise else ""
    seeds = setup.dataset.sizes["seed"]
    many = f"{len(rates)} learning rates from {rates[0]:.3g} to {rates[-1]:.3g}" if len(rates) > 1 else (
        f"the learning rate {rates[0]:.3g}"
    )  # fmt: skip
    text = (
        f"{run.model.title}, D = {setup.dataset.attrs['weights']} scale-invariant weights, on {images.name}"
        f"{per_class}{noise}; {training.loss}, batches of {training.batch_size}; projected SGD on the "
        f"sphere of radius {training.radius:g} for {training.iterations} iterations at {many}, "
        f"{seeds} seed{'s' if seeds > 1 else ''} each. Entropies are of {run.measurement.window} "
        f"iterates, {run.measurement.stride} apart; engine {training.engine} on {training.device}."
    )
    description = setup.preset.description
    return f"{description}. {text}" if description else text


def _facts(setup: Setup) -> list[Fact]:
    estimate = setup.estimate
    if isinstance(estimate, str):
        return [Fact("temperature T", "not known", estimate), *_fact_of_stationarity(setup)]
    if not setup.analysis.has_law:
        return [Fact("law of T", "none", NO_EQUILIBRIUM), *_fact_of_stationarity(setup)]
    if not np.isfinite(estimate.exponent):
        note = "fewer than two learning rates have a T above 0 between the ends"
        single = _facts_of_points(estimate)
        return [*single, Fact("law of T", "not known", note), *_fact_of_stationarity(setup)]
    facts = [
        Fact(
            f"T at η = {estimate.reference_lr:.3g}",
            f"{estimate.reference_temperature:.3g}",
            _interval_note(estimate, "reference_interval", ".3g"),
        ),
        Fact(
            "exponent of T in η",
            f"{estimate.exponent:.2f}",
            _interval_note(estimate, "exponent_interval", ".2f"),
        ),
    ]
    if estimate.convexity_p_value is not None and np.isfinite(estimate.convexity_p_value):
        note = "p of so far a point off a convex U(S)"
        facts.append(Fact("convexity of U(S)", f"p = {estimate.convexity_p_value:.2g}", note))
    return [*facts, *_fact_of_stationarity(setup), *_fact_of_crossing(setup.thermometers)]


def _facts_of_points(estimate: TemperatureEstimate) -> list[Fact]:
    """Return the temperatures that are known one by one, with their intervals."""
    facts = []
    for index in np.flatnonzero(estimate.temperature > 0.0):
        interval = None if estimate.interval is None else estimate.interval[index]
        if interval is not None and np.isfinite(interval).all():
            low, high = interval
            note = f"[{low:.3g}, {high:.3g}], {estimate.confidence:.0%} over {estimate.seeds} seeds"
            facts.append(
                Fact(f"T at η = {estimate.lr[index]:.3g}", f"{estimate.temperature[index]:.3g}", note)
            )
    return facts


def _fact_of_one(setup: Setup) -> list[Fact]:
    """Return U and S of a sweep of one learning rate."""
    if setup.dataset.sizes["lr"] > 1:
        return []
    values, found = setup.stationary.isel(lr=0), []
    for name, label, form in (("energy", "U", ".4g"), ("entropy", "S (nats)", ".1f")):
        error = float(shown_error(setup.stationary, name)[0])
        found.append(Fact(label, f"{float(values[name]):{form}} ± {error:.2g}"))
    return found


def _interval_note(estimate: TemperatureEstimate, name: str, form: str) -> str:
    interval = getattr(estimate, name)
    if interval is None:
        return "of one seed: no interval"
    low, high = interval
    return f"[{low:{form}}, {high:{form}}], {estimate.confidence:.0%} over {estimate.seeds} seeds"


def _fact_of_stationarity(setup: Setup) -> list[Fact]:
    found = setup.analysis.stationarity
    if isinstance(found, str):
        return [Fact("stationary", "not known", found)]
    return [
        Fact(
            "stationary",
            f"{int(found['stationary'].sum())} of {found.sizes['lr']}",
            f"learning rates, by {found.attrs['errors']}",
        )
    ]


def _fact_of_crossing(found: xr.Dataset) -> list[Fact]:
    if not np.isfinite(float(found["crossing"])):
        return []
    low, high = found["crossing_interval"].values
    return [
        Fact(
            "dU/dS crosses T of the noise at η", f"{float(found['crossing']):.3g}", f"[{low:.3g}, {high:.3g}]"
        )
    ]


def _advice(setup: Setup) -> list[Advice]:
    return [
        *_advice_on_seeds(setup),
        *_advice_on_equilibrium(setup),
        *_advice_on_drifts(setup),
        *_advice_on_windows(setup),
        *_advice_on_convexity(setup.estimate),
        *advice_on_lost_members(setup),
    ]


def advice_on_progress(progress: Progress) -> list[Advice]:
    """Say what a sweep waits for, or which of its runs failed."""
    advice = []
    if not progress.complete:
        share = progress.iterations / max(progress.all_iterations, 1)
        advice.append(
            Advice(
                f"{progress.finished} of {progress.members} runs are finished, {share:.0%} of all "
                "iterations done.",
                "What is shown is provisional; the command that began the sweep goes on with it.",
            )
        )
    return [*advice, *advice_on_failures(progress)]


def advice_on_failures(progress: Progress) -> list[Advice]:
    """Return what to do about runs that failed, if some did."""
    if not progress.failures:
        return []
    first, *others = progress.failures
    count = len(progress.failures)
    return [
        Advice(
            f"{count} run{'s' if others else ''} failed: {first}{' and others' if others else ''}.",
            "Each has an error.log in its folder; mend what it says, and the same command goes on.",
        )
    ]


def _advice_on_seeds(setup: Setup) -> list[Advice]:
    seeds = setup.dataset.sizes["seed"]
    if seeds >= _MANY_SEEDS:
        return []
    what = (
        "One seed: nothing is known of the error of T."
        if seeds == 1
        else f"{seeds} seeds: intervals are wide, and their widths uncertain."
    )
    return [Advice(what, f"Add seeds with --set seeds={_MANY_SEEDS}: only those that lack are computed.")]


def _advice_on_equilibrium(setup: Setup) -> list[Advice]:
    if setup.analysis.has_law:
        return []
    return [
        Advice(
            f"T has no law: {NO_EQUILIBRIUM}.",
            "Take more of them between convergence and chaos, longer runs, or a range of your own "
            "(fit.first, fit.last).",
        )
    ]


def _advice_on_drifts(setup: Setup) -> list[Advice]:
    found = setup.analysis.stationarity
    if isinstance(found, str):
        return [
            Advice(
                f"Nothing says whether the runs are stationary ({found}).", "Mend that before T is trusted."
            )
        ]
    regime = setup.analysis.stationary["regime"]
    drifting = found.sel(lr=np.sort(regime["lr"].values[regime.values == Regime.DRIFT]))
    if not drifting.sizes["lr"]:
        return []
    rates = ", ".join(f"{lr:.3g}" for lr in drifting["lr"].values)
    lacking = drifting["iterations_lacking"].values
    more = lacking[np.isfinite(lacking)]
    remedy = (
        f"{_rounded(more.min())} to {_rounded(more.max())} iterations more would do, if what drifts settles "
        "as 1/t: set run.training.iterations, and more seeds where it cannot be told."
        if len(more)
        else "Measure more seeds or longer runs."
    )
    kept = np.isin(drifting["lr"].values, setup.analysis.fit.lr).any()
    fate = "some of them are in the fit of T all the same" if kept else "left out of the fit of T"
    return [Advice(f"Not known to be stationary at η = {rates}: {fate}.", remedy)]


def _rounded(iterations: float) -> str:
    return f"{float(f'{iterations:.2g}'):,.0f}".replace(",", "\u202f")


def _advice_on_windows(setup: Setup) -> list[Advice]:
    if "effective_samples" not in setup.dataset:
        return []
    points = (
        setup.dataset["effective_samples"]
        .isel(iteration=slice(-setup.last, None))
        .mean(("iteration", "seed"))
    )
    few = points.isel(lr=(points < FEW_POINTS).values)
    if not few.sizes["lr"]:
        return []
    stride = setup.preset.run.measurement.stride
    return [
        Advice(
            f"Windows hold fewer than {FEW_POINTS:.0f} independent points at η up to "
            f"{float(few['lr'].max()):.3g}: their S is that of a stretch of path.",
            f"Space them further apart (run.measurement.stride, now {stride}) in runs as much longer.",
        )
    ]


def _advice_on_convexity(estimate: TemperatureEstimate | str) -> list[Advice]:
    if isinstance(estimate, str) or estimate.convexity_p_value is None:
        return []
    if not estimate.convexity_p_value < _LEAST_P_VALUE:
        return []
    return [
        Advice(
            f"U(S) is not convex (p = {estimate.convexity_p_value:.2g}): at some learning rates no T makes "
            "the state the minimizer of U - T S.",
            "Look at the surface for a jump, and fit each side of it alone (fit.first, fit.last).",
        )
    ]


def advice_on_lost_members(setup: Setup) -> list[Advice]:
    """Warn of runs whose loss is not finite."""
    if not setup.progress.complete:
        return []
    last = setup.dataset["loss"].isel(iteration=-1)
    lost = int((~np.isfinite(last)).sum())
    if not lost:
        return []
    return [
        Advice(
            f"U of {lost} of {last.size} runs is not finite at the end.",
            "Their learning rates have no part in the fit; take smaller ones, or leave them out.",
        )
    ]
