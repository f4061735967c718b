"""Figure of the calibration: measured values beside theory."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythermo.figures.style import BLUE, GRAY, GREEN, LR_LABEL, ORANGE, own_style

_UNITS = {"energy": "loss U", "entropy": "entropy S (nats)", "temperature": "temperature T"}
_COLORS = (BLUE, ORANGE)


def calibration(spheres: Sequence[xr.Dataset], gases: Sequence[xr.Dataset]) -> Figure:
    """Draw U, S, T on the sphere with theory as lines, and radius and entropy in full space.

    Parameters
    ----------
    spheres : sequence of Dataset
        As `pythermo.studies.calibration.sphere_sweep` makes them, at most two.
    gases : sequence of Dataset
        As `gas_sweep` there makes them.

    Returns
    -------
    Figure
        Above: measured on the sphere (points) and theory as lr -> 0 (lines). Below: what is left between
        them on the left, then the full space.
    """
    with own_style():
        figure = Figure(figsize=(13.0, 7.0), layout="constrained")
        above, below = figure.subplots(2, 3)
        for axes, (name, label) in zip(above, _UNITS.items(), strict=True):
            for sweep, color in zip(spheres, _COLORS, strict=False):
                shown = sweep.isel(lr=slice(1, -1)) if name == "temperature" else sweep
                axes.plot(shown["lr"], shown[name], "o", color=color, label=f"D = {sweep.attrs['dim']}")
                axes.plot(shown["lr"], shown[f"{name}_theory"], color=color, lw=1.0)
            axes.set(xscale="log", xlabel=LR_LABEL, ylabel=label)
            if name != "entropy":
                axes.set_yscale("log")
            axes.legend(fontsize=8, title="theory: lines", title_fontsize=8)
        _draw_errors(below[0], spheres[0])
        _draw_radius(below[1], gases)
        _draw_gas_entropy(below[2], gases)
        return figure


def _draw_errors(axes: Axes, sweep: xr.Dataset) -> None:
    """Draw the relative errors of U and T, and that of S in nats, against the learning rate."""
    inner = sweep.isel(lr=slice(1, -1))
    for name, color in (("energy", BLUE), ("temperature", GREEN)):
        error = 100.0 * (inner[name] / inner[f"{name}_theory"] - 1.0)
        axes.plot(inner["lr"], error, "o-", color=color, lw=1.0, label=f"{_UNITS[name]} (%)")
    shift = 100.0 * (inner["entropy"] - inner["entropy_theory"])
    axes.plot(inner["lr"], shift, "o-", color=ORANGE, lw=1.0, label="entropy S (0.01 nats)")
    axes.axhline(0.0, color=GRAY, lw=1.0)
    axes.set(xscale="log", xlabel=LR_LABEL, ylabel="measured over theory, - 1")
    axes.set_title(f"D = {sweep.attrs['dim']}: bias of order η", fontsize=10)
    axes.legend(fontsize=8)


def _draw_radius(axes: Axes, gases: Sequence[xr.Dataset]) -> None:
    for gas, color in zip(gases, _COLORS, strict=False):
        theory, measured = gas["radius_theory"].values.ravel(), gas["radius"].values.ravel()
        axes.plot(theory, measured, "o", color=color, label=gas.attrs["protocol"])
    ends = np.array([gas["radius_theory"].values for gas in gases])
    line = [ends.min(), ends.max()]
    axes.plot(line, line, color=GRAY, lw=1.0)
    axes.set(xscale="log", yscale="log", xlabel="radius r* of the ideal gas", ylabel="measured radius")
    axes.set_title("full space, D = 3", fontsize=10)
    axes.legend(fontsize=8)


def _draw_gas_entropy(axes: Axes, gases: Sequence[xr.Dataset]) -> None:
    """Draw the entropy against weight decay, a line for each learning rate."""
    sides = ((0, -6, "right"), (-1, 6, "left"))  # which end of a line bears its name
    for gas, color, (end, offset, align) in zip(gases, _COLORS, sides, strict=False):
        for i in range(gas.sizes["lr"]):
            label = gas.attrs["protocol"] if i == 0 else None
            one = gas.isel(lr=i)
            axes.plot(one["weight_decay"], one["entropy"], "o-", color=color, lw=1.0, label=label)
            axes.annotate(
                f"η = {float(one['lr']):.3g}",
                (float(one["weight_decay"][end]), float(one["entropy"][end])),
                xytext=(offset, -3),
                textcoords="offset points",
                ha=align,
                fontsize=7,
                color=color,
            )
    axes.margins(x=0.35)
    axes.set(xscale="log", xlabel="weight decay λ", ylabel="entropy S (nats)")
    axes.set_title("slopes: -1 (fixed-elr), 0 (fixed-lr)", fontsize=10)
    axes.legend(fontsize=8)
