"""Which learning rates of sweeps are stationary, at a glance."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythermo.figures.style import (
    BLUE,
    GREEN,
    LR_LABEL,
    ORANGE,
    legend_beside,
    own_style,
    require_some,
    say,
)


def drifts(titled: Mapping[str, xr.Dataset | str]) -> Figure:
    """Draw the drifts of U and S between the last two quarters, in units of the largest that does not matter.

    Parameters
    ----------
    titled : mapping of str to Dataset or str
        What `pythermo.stationarity` returns, or why it cannot be said, by title; a panel each.

    Returns
    -------
    Figure
        A learning rate is stationary where both intervals lie in the shaded band. Beyond 2.5 the axis is
        logarithmic.
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(6.0 * len(titled), 3.8), layout="constrained")
        row = figure.subplots(1, len(titled), squeeze=False)[0]
        for (title, found), axes in zip(titled.items(), row, strict=True):
            draw_drifts(axes, found)
            axes.set_title(title)
        return figure


def draw_drifts(axes: Axes, found: xr.Dataset | str) -> None:
    """Draw the drifts of one sweep, or say why they are not known."""
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel="drift / the largest that does not matter")
    if isinstance(found, str):
        say(axes, f"not known: {found}")
        return
    lr = found["lr"].values
    axes.axhspan(-1.0, 1.0, color=GREEN, alpha=0.12, lw=0, zorder=0)
    for name, label, color, beside in (("energy", "U", BLUE, 0.97), ("entropy", "S", ORANGE, 1.03)):
        with np.errstate(divide="ignore", invalid="ignore"):
            drift, low, high = (
                values / found[f"{name}_tolerance"].values
                for values in (
                    found[f"{name}_drift"].values,
                    *(found[f"{name}_interval"].sel(bound=bound).values for bound in ("low", "high")),
                )
            )
        axes.plot(beside * lr, drift, "o", color=color, label=label)
        axes.vlines(beside * lr, low, high, color=color, lw=1.2)
    axes.set_yscale("symlog", linthresh=2.5)
    axes.set_yticks([-10, -2, -1, 0, 1, 2, 10], labels=["-10", "-2", "-1", "0", "1", "2", "10"])
    legend_beside(axes, axes)
