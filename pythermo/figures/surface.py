"""U against S, the surface whose slope is the temperature, and that temperature with its intervals."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import stationary_members
from pythermo.analysis.temperatures import Analysis
from pythermo.estimators.temperature_estimate import TemperatureEstimate
from pythermo.figures.style import (
    BLUE,
    GRAY,
    GREEN,
    LR_LABEL,
    ORANGE,
    label_short_axis,
    own_style,
    require_some,
    say,
)
from pythermo.training.quantities import QUANTITIES


def thermodynamic_surface(titled: Mapping[str, Setup]) -> Figure:
    """Draw U against S with the convex curve through them, and T with its intervals, a row per setup.

    Parameters
    ----------
    titled : mapping of str to Setup
        Finished sweeps by their titles.

    Returns
    -------
    Figure
        Left: the members of all learning rates as points, their means with standard errors over seeds, hollow
        where they are not stationary, and the convex curve of the fit's range; a jump shows as means above
        it. Right: the slope T of the curve, with its intervals over seeds and the law through it.
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(10.0, 3.8 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 2, squeeze=False)
        for (title, setup), (left, right) in zip(titled.items(), rows, strict=True):
            draw_surface(left, setup.dataset, setup.last, setup.analysis, setup.estimate)
            left.set_title(title)
            draw_estimate(right, setup.estimate)
        return figure


def draw_surface(
    axes: Axes, sweep: xr.Dataset, last: int, analysis: Analysis, estimate: TemperatureEstimate | str
) -> None:
    """Draw U against S: members, means over seeds, and the convex curve."""
    members = stationary_members(sweep, last)
    axes.plot(members["entropy"].values.ravel(), members["energy"].values.ravel(), ".", color=GRAY, ms=2.5)
    values = analysis.stationary
    for chosen, face, label in _marks(analysis.stationarity, values.sizes["lr"]):
        part = values.isel(lr=chosen)
        axes.errorbar(
            part["entropy"], part["energy"], part["energy_error"], part["entropy_error"],
            fmt="o", color=BLUE, mfc=face, lw=1.0, capsize=2, label=label,
        )  # fmt: skip
    if not isinstance(estimate, str):
        order = np.argsort(estimate.entropy)
        axes.plot(
            estimate.entropy[order], estimate.energy[order], "-", color=ORANGE, lw=1.2, label="convex curve"
        )
    axes.set(xlabel=f"entropy S ({QUANTITIES['entropy'].unit})", ylabel="loss U")
    axes.legend(fontsize=8)


def _marks(found: xr.Dataset | str, count: int) -> list[tuple[NDArray[np.bool_], str, str]]:
    """Return which learning rates are drawn alike, their face color and label."""
    if isinstance(found, str):
        return [(np.ones(count, dtype=bool), BLUE, "means")]
    kept = np.asarray(found["stationary"].values)
    marks = [(kept, BLUE, "means, stationary"), (~kept, "white", "means that may drift")]
    return [mark for mark in marks if mark[0].any()]


def draw_estimate(axes: Axes, estimate: TemperatureEstimate | str) -> None:
    """Draw T by dU/dS with its intervals and its law, or say why there is none."""
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel="temperature T (dU/dS)", title="temperature")
    if isinstance(estimate, str):
        say(axes, f"none: {estimate}")
        return
    hot = estimate.temperature > 0.0
    axes.plot(estimate.lr[hot], estimate.temperature[hot], "o", color=GREEN, label="T")
    if estimate.interval is not None:
        low, high = estimate.interval[hot].T
        known = np.isfinite(low) & np.isfinite(high) & (low > 0.0)
        label = f"{estimate.confidence:.0%} over {estimate.seeds} seeds"
        axes.vlines(estimate.lr[hot][known], low[known], high[known], color=GREEN, lw=1.2, label=label)
    if np.isfinite(estimate.exponent):
        law = estimate.reference_temperature * (estimate.lr / estimate.reference_lr) ** estimate.exponent
        text = f"η^{estimate.exponent:.2f}"
        if estimate.exponent_interval is not None:
            text += " [{:.2f}, {:.2f}]".format(*estimate.exponent_interval)
        axes.plot(estimate.lr, law, "--", color=GRAY, lw=1.0, label=text)
    if hot.any():
        axes.set_yscale("log")
        label_short_axis(axes.yaxis)
    label_short_axis(axes.xaxis)
    axes.legend(fontsize=8)
