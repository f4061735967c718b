"""All thermometers of a sweep against the learning rate, and what else they tell of its states."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pythermo.analysis.thermometers import TEMPERATURES, agreement
from pythermo.figures.style import (
    GRAY,
    GREEN,
    LR_LABEL,
    PURPLE,
    distinct,
    label_short_axis,
    own_style,
    require_some,
    say,
    stretches,
)


def thermometers(titled: Mapping[str, xr.Dataset]) -> Figure:
    """Draw the temperatures of sweeps by all thermometers, the change of S by two of them, and dimensions.

    Parameters
    ----------
    titled : mapping of str to Dataset
        What `pythermo.thermometers` returns, by title; one row each.

    Returns
    -------
    Figure
        Left: temperatures with their intervals over seeds; shaded where those of dU/dS and of the noise
        overlap. Then the change of S, as measured and by the integral of dU/T of the noise; effective
        dimensions; and the edge ratio, whose 1 is the end of formulas for small learning rates.
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(17.0, 3.8 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 4, squeeze=False, sharex="row")
        for (title, found), row in zip(titled.items(), rows, strict=True):
            draw_temperatures(row[0], found)
            row[0].set_title(title)
            _draw_entropies(row[1], found)
            _draw_dimensions(row[2], found)
            _draw_edge(row[3], found)
            for axes in row:
                axes.set(xscale="log", xlabel=LR_LABEL)
                if found["lr"][-1] < 10 * found["lr"][0]:
                    label_short_axis(axes.xaxis)
        return figure


def draw_temperatures(axes: Axes, found: xr.Dataset) -> None:
    """Draw all temperatures with their intervals, shaded where dU/dS and the noise agree."""
    shown = [name for name in TEMPERATURES if name in found and (found[name] > 0.0).any()]
    for place, (name, (color, marker)) in enumerate(zip(shown, distinct(), strict=False)):
        # Side by side, so that intervals do not hide each other.
        beside = found["lr"].values * 1.02 ** (place - len(shown) / 2)
        _draw_with_intervals(axes, beside, found, name, color, marker)
    for agree, low, high in stretches(found["lr"].values, agreement(found).tolist()):
        if agree:
            axes.axvspan(low, high, color=GREEN, alpha=0.12, lw=0, zorder=0, label="dU/dS and noise agree")
    axes.set_ylabel("temperature T")
    if shown:
        axes.set_yscale("log")
        label_short_axis(axes.yaxis)
    _legend(axes)


def _draw_entropies(axes: Axes, found: xr.Dataset) -> None:
    for (name, label), (color, marker) in zip(
        {"entropy_change": "measured", "noise_entropy_change": "∫ dU / T of the noise"}.items(),
        distinct(),
        strict=False,
    ):
        _draw_with_intervals(axes, found["lr"].values, found, name, color, marker, label, positive=False)
    if "ensemble_entropy_change" in found:
        axes.plot(
            found["lr"],
            found["ensemble_entropy_change"],
            "D-",
            color=GREEN,
            lw=0.8,
            ms=4,
            label="over the seeds",
        )
    axes.set(ylabel="change of S (nats)", title="consistency")
    _legend(axes)


def _draw_dimensions(axes: Axes, found: xr.Dataset) -> None:
    names = [name for name in ("effective_dimension", "quench_dimension") if name in found]
    for name, (color, marker) in zip(names, distinct(), strict=False):
        _draw_with_intervals(axes, found["lr"].values, found, name, color, marker)
    axes.set(ylabel="dimension", title="effective dimension")
    if any((found[name] > 0.0).any() for name in names):
        axes.set_yscale("log")
        label_short_axis(axes.yaxis)
    _legend(axes)


def _draw_edge(axes: Axes, found: xr.Dataset) -> None:
    axes.set(ylabel="edge ratio η λ / 2", title="edge of stability")
    labels = {"edge_ratio": "of U, its largest λ", "batch_edge_ratio": "of minibatches, along gradients"}
    names = [name for name in labels if name in found]
    if not names:
        say(axes, "not measured\n(run.measurement.power_iterations)")
        return
    for name, (color, marker) in zip(names, ((PURPLE, "s"), (GREEN, "o")), strict=False):
        _draw_with_intervals(axes, found["lr"].values, found, name, color, marker, labels[name])
    axes.axhline(1.0, color=GRAY, lw=0.8, ls="--")
    _legend(axes)
    if any((found[name] > 0.0).any() for name in names):
        axes.set_yscale("log")
        label_short_axis(axes.yaxis)


def _draw_with_intervals(
    axes: Axes,
    lr: NDArray[np.float64],
    found: xr.Dataset,
    name: str,
    color: str,
    marker: str,
    label: str | None = None,
    positive: bool = True,
) -> None:
    """Draw what is known of a variable; on logarithmic axes, what is positive."""
    value = found[name].values
    low, high = (found[f"{name}_interval"].sel(bound=bound).values for bound in ("low", "high"))
    shown = np.isfinite(value) & ((value > 0.0) | (not positive))
    label = found[name].attrs["long_name"] if label is None else label
    axes.plot(lr[shown], value[shown], marker + "-", color=color, lw=0.8, ms=4, label=label)
    known = shown & np.isfinite(low) & np.isfinite(high) & ((low > 0.0) | (not positive))
    axes.vlines(lr[known], low[known], high[known], color=color, lw=1.2)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.legend(list(once.values()), list(once), fontsize=8)
