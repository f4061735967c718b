"""Figures of sweeps over learning rates."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythermo.analysis.regimes import Regime
from pythermo.analysis.stationary import shown_error, with_seeds
from pythermo.analysis.temperatures import Analysis
from pythermo.config.preset import FIGURE_K
from pythermo.estimators.temperature import PowerLaw, fit_power_law, free_energy, temperature_along_run
from pythermo.figures.style import (
    BLUE,
    GRAY,
    GREEN,
    LR_LABEL,
    ORANGE,
    distinct,
    label_short_axis,
    legend_beside,
    own_style,
    require_some,
    shades,
    stretches,
)
from pythermo.training.quantities import QUANTITIES

_COMPARED_KS = (10, 50, 200)
# The share of temperatures along a run that must be positive to follow a law: of noise half of them are.
_LEAST_POSITIVE = 0.8
_SHOWN_AS = {
    "energy": (BLUE, QUANTITIES["loss"].long_name),
    "entropy": (ORANGE, QUANTITIES["entropy"].label),
}
# Where a value that rises with the learning rate from low to its baseline leaves room for a legend.
_FREE: dict[str, Literal["center left", "lower right"]] = {"energy": "center left", "entropy": "lower right"}


def stationary_values(titled: Mapping[str, Analysis]) -> Figure:
    """Draw stationary U and S against the learning rate, one row per sweep (figure 1 of the paper).

    Parameters
    ----------
    titled : mapping of str to Analysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(9.0, 3.0 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 2, squeeze=False)
        for (title, analysis), (left, right) in zip(titled.items(), rows, strict=True):
            draw_stationary(left, analysis, "energy")
            draw_stationary(right, analysis, "entropy")
            left.set_title(title)
            right.set_title(title)
        return figure


def thermodynamics(
    titled: Mapping[str, Analysis], baselines: Mapping[str, xr.Dataset] | None = None
) -> Figure:
    """Draw U and S with uniform baselines, T with its power law, and F (figure 2 of the paper).

    Shaded are the learning rates of convergence, drift and chaos, hollow are jumps: see
    `pythermo.analysis.regimes.Regime`.

    Parameters
    ----------
    titled : mapping of str to Analysis
        Analyzed sweeps by title; one row each.
    baselines : mapping of str to Dataset, optional
        Uniform loss and entropy by the same titles, drawn dashed.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(14.5, 3.4 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 4, squeeze=False, sharex="row")
        for (title, analysis), row in zip(titled.items(), rows, strict=True):
            draw_stationary(row[0], analysis, "energy")
            draw_stationary(row[1], analysis, "entropy")
            row[0].set_title(title, pad=20)  # above the names of the regimes
            row[1].set_title(title)
            baseline = (baselines or {}).get(title)
            if baseline is not None:
                _draw_baseline(row[0], float(baseline["uniform_loss"]))
                _draw_baseline(row[1], float(baseline["uniform_entropy"].sel(k=FIGURE_K)))
            _draw_temperature(row[2], analysis)
            draw_free_energy(row[3], analysis)
            for axes in row:
                _shade_regimes(axes, analysis)
            _name_regimes(row[0], analysis)
        return figure


def temperature_decay(sweep: xr.Dataset, title: str, runs: int = 4, last: int = 100) -> Figure:
    """Draw the temperature along the runs at the smallest learning rates (figure 3 of the paper).

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and perhaps seed, over which U and S are averaged.
    title : str
        Title of the figure.
    runs : int
        Number of learning rates, from the smallest.
    last : int
        Number of measurements, from the last.

    Returns
    -------
    Figure
        Positive temperatures on log axes. Lines are power laws of the iteration, where T is seen to fall:
        nearly all temperatures are positive, and the exponent is below 0 by 3 standard errors.
    """
    with own_style():
        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        axes = figure.subplots()
        colors = shades(runs)
        drawn, pooled = 0, with_seeds(sweep)[["loss", "entropy"]].sel(k=FIGURE_K)
        for index, color in zip(range(min(runs, sweep.sizes["lr"])), colors, strict=False):
            one = pooled.isel(lr=index).mean("seed", skipna=False)
            known = one.isel(iteration=one["entropy"].notnull().values).isel(iteration=slice(-last, None))
            temperature = temperature_along_run(known["loss"].values, known["entropy"].values)
            positive = temperature > 0.0
            t, y = known["iteration"].values[positive], temperature[positive]
            drawn += len(t)
            law = fit_power_law(t, y)
            found = positive.sum() > _LEAST_POSITIVE * np.isfinite(temperature).sum() and _falls(law)
            grows = f", T ∝ t^{law.exponent:.1f}" if found else ""
            axes.plot(t, y, "o", color=color, label=f"η = {float(one['lr']):.3g}{grows}")
            if found:
                axes.plot(t, law.prefactor * t**law.exponent, color=color, lw=1.0)
        axes.set(xlabel="iteration t", ylabel="temperature T", title=title)
        if drawn == 0:
            axes.text(
                0.5, 0.5, "no positive temperature\nalong these runs", ha="center", transform=axes.transAxes
            )
            return figure
        axes.set(xscale="log", yscale="log")
        label_short_axis(axes.xaxis)
        axes.legend(fontsize=8)
        return figure


def _falls(law: PowerLaw) -> bool:
    return bool(law.exponent + 3.0 * law.exponent_stderr < 0.0)  # not so for a line through two points


def signal_to_noise(titled: Mapping[str, Analysis]) -> Figure:
    """Draw the stationary SNR of the gradient against the learning rate, a line per sweep.

    Parameters
    ----------
    titled : mapping of str to Analysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
        Learning rates at which even the mean of the estimates of |G|^2 is negative are left out.
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        for (title, analysis), (color, marker) in zip(titled.items(), distinct(), strict=False):
            draw_snr(axes, analysis, color, marker, title)
        axes.legend(fontsize=8)
        return figure


def draw_snr(axes: Axes, analysis: Analysis, color: str, marker: str, label: str) -> None:
    """Draw the stationary SNR with its errors."""
    values = analysis.stationary
    axes.errorbar(
        values["lr"],
        values["snr"],
        values["snr_error"],
        fmt=marker + "-",
        color=color,
        lw=1.0,
        label=label,
    )
    axes.set(xscale="log", yscale="log", xlabel=LR_LABEL, ylabel=QUANTITIES["snr"].label)
    label_short_axis(axes.yaxis)


def entropy_by_neighbors(title: str, by_k: Mapping[int, Analysis]) -> Figure:
    """Draw S of a sweep against the number of neighbors k, and what T becomes for some of them.

    Parameters
    ----------
    title : str
        Title of the figure.
    by_k : mapping of int to Analysis
        Analyses of one sweep by the k of their entropies, in ascending order.

    Returns
    -------
    Figure
        Left: S, a line per learning rate. Middle: how far the S of one k rises with the learning rate
        otherwise than that of k = 50, common constant removed. Right: T.
    """
    require_some("by_k", by_k)
    with own_style():
        figure = Figure(figsize=(12.5, 3.8), layout="constrained")
        figure.suptitle(title)
        left, middle, right = figure.subplots(1, 3)
        right.sharex(middle)
        ks = np.array(list(by_k))
        lr = next(iter(by_k.values())).stationary["lr"].values
        entropy = np.array([analysis.stationary["entropy"].values for analysis in by_k.values()])
        colors = shades(len(lr))
        for one, values, color in zip(lr, entropy.T, colors, strict=True):
            left.plot(ks, values, "o-", color=color, lw=1.0, label=f"η = {one:.2g}")
        left.set(xscale="log", xlabel="neighbors k", ylabel=f"entropy $S_k$ ({QUANTITIES['entropy'].unit})")
        legend_beside(left, left)
        shown = [k for k in _COMPARED_KS if k in by_k]
        for k, color, marker in zip(shown, (BLUE, GREEN, ORANGE), "osD", strict=False):
            analysis = by_k[k]
            change = analysis.stationary["entropy"] - by_k[FIGURE_K].stationary["entropy"]
            middle.plot(lr, change - change[-1], marker + "-", color=color, lw=1.0, label=f"k = {k}")
            fit = analysis.fit
            law = f"k = {k}"
            if np.isfinite(fit.exponent):
                law += f": {fit.prefactor:.1e} · η^{fit.exponent:.2f}"
            usable = fit.feasible & (fit.temperature > 0.0)
            right.plot(fit.lr[usable], fit.temperature[usable], marker + "-", color=color, lw=1.0, label=law)
        middle.set(
            xscale="log",
            xlabel=LR_LABEL,
            ylabel=f"$S_k - S_{{50}}$, 0 at the largest η ({QUANTITIES['entropy'].unit})",
        )
        right.set(xscale="log", xlabel=LR_LABEL, ylabel="temperature T")
        if any((analysis.fit.temperature > 0.0).any() for analysis in by_k.values()):
            right.set_yscale("log")
            label_short_axis(right.yaxis)
        for axes in (middle, right):
            axes.legend(fontsize=8)
        return figure


def draw_stationary(axes: Axes, analysis: Analysis, name: Literal["energy", "entropy"]) -> None:
    """Draw stationary U or S; hollow where the fit found the point off the convex hull."""
    color, label = _SHOWN_AS[name]
    values, fit = analysis.stationary, analysis.fit
    axes.errorbar(
        values["lr"], values[name], shown_error(values, name), fmt="o-", color=color, lw=1.2, capsize=2
    )
    off_hull = values.sel(lr=fit.lr[~fit.feasible])
    if off_hull.sizes["lr"]:
        axes.plot(
            off_hull["lr"],
            off_hull[name],
            "o",
            color=color,
            mfc="white",
            zorder=3,
            label="off the convex hull",
        )
        axes.legend(fontsize=8, loc=_FREE[name])
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel=label)


_SHADED = {Regime.CONVERGENCE: BLUE, Regime.DRIFT: ORANGE, Regime.CHAOS: GRAY}


def _stretches(analysis: Analysis) -> list[tuple[Regime, float, float]]:
    """Return the stretches of learning rates of one regime, halfway to their neighbors; jumps apart."""
    lr = analysis.stationary["lr"].values
    found = analysis.stationary["regime"].values
    named = [Regime.EQUILIBRIUM if one == Regime.JUMP else Regime(str(one)) for one in found]
    return stretches(lr, named)


def _shade_regimes(axes: Axes, analysis: Analysis) -> None:
    for regime, start, stop in _stretches(analysis):
        if regime in _SHADED:
            axes.axvspan(start, stop, color=_SHADED[regime], alpha=0.1, lw=0, zorder=0)


def _name_regimes(axes: Axes, analysis: Analysis) -> None:
    for place, (regime, start, stop) in enumerate(_stretches(analysis)):
        axes.annotate(
            regime.value,
            (float(np.sqrt(start * stop)), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + 8 * (place % 2)),  # neighbors may be narrower than their names
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color="#333333",
        )


def _draw_baseline(axes: Axes, level: float) -> None:
    axes.axhline(level, color=GRAY, ls="--", lw=1.0)
    axes.margins(y=0.12)
    axes.annotate(
        "uniform on the sphere",
        (0.02, level),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=8,
        color="#333333",
    )


def _draw_temperature(axes: Axes, analysis: Analysis) -> None:
    """Draw T with its interval and power law; points off the convex hull are hollow."""
    fit = analysis.fit
    axes.fill_between(
        fit.lr,
        np.minimum(fit.lower, fit.upper),
        np.maximum(fit.lower, fit.upper),
        color=GREEN,
        alpha=0.2,
        label="interval",
    )
    axes.plot(fit.lr[fit.feasible], fit.temperature[fit.feasible], "o", color=GREEN, label="T")
    if not fit.feasible.all():
        hollow = ~fit.feasible
        axes.plot(
            fit.lr[hollow], fit.temperature[hollow], "o", color=GREEN, mfc="white", label="off the hull"
        )
    if np.isfinite(fit.exponent_stderr):
        law = f"{fit.prefactor:.1e} · η^{fit.exponent:.2f}"
        axes.plot(fit.lr, fit.prefactor * fit.lr**fit.exponent, "--", color=GRAY, lw=1.0, label=law)
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel="temperature T", title="temperature")
    if (fit.temperature > 0.0).any():
        axes.set_yscale("log")
        label_short_axis(axes.yaxis)
    axes.legend(fontsize=8)


def draw_free_energy(axes: Axes, analysis: Analysis, curves: int = 4) -> None:
    """Draw F(eta) at some fitted temperatures, shifted to a minimum of 0; stars mark each one's own eta."""
    fit = analysis.fit
    usable = np.flatnonzero(fit.fitted & fit.feasible)
    chosen = (
        usable[np.unique(np.linspace(0, len(usable) - 1, curves).round().astype(int))] if len(usable) else []
    )
    colors = shades(curves)
    for i, color in zip(chosen, colors, strict=False):
        free = free_energy(fit.energy, fit.entropy, fit.temperature[i])
        free = free - free.min()
        axes.plot(fit.lr, free, "o-", color=color, lw=1.0, ms=3, label=f"T = {fit.temperature[i]:.1e}")
        axes.plot(fit.lr[i], free[i], "*", color=color, ms=12, mec="black", mew=0.6)
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel="F(η) - min F", title="free energy U - T S")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=-0.02)
    if len(chosen):
        axes.legend(fontsize=8)
