"""Figure of the calibration: measured values beside theory."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythermo._checks import Floats
from pythermo.figures.style import BLUE, GRAY, GREEN, LR_LABEL, ORANGE, legend_beside, own_style, shades

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


def calibration_gibbs(gases: Sequence[xr.Dataset], energies: Sequence[Floats]) -> Figure:
    """Draw the Gibbs energy of all states at the T and p of nine of them: it is least at their own.

    Parameters
    ----------
    gases : sequence of Dataset
        As `pythermo.studies.gas.gas_sweep` makes them.
    energies : sequence of array [cells, cells]
        As `gibbs_energies` there makes them of each.

    Returns
    -------
    Figure
        A row of nine panels for each gas: rings are the cell whose T and p it is, crosses the least energy.
    """
    with own_style({"axes.grid": False}):
        figure = Figure(figsize=(15.0, 2.1 * len(gases) + 0.6), layout="constrained")
        rows = figure.subplots(len(gases), 9, squeeze=False)
        for gas, energy, row in zip(gases, energies, rows, strict=True):
            shape = gas["energy"].shape
            draw_nine_maps(row, energy.reshape(*shape, *shape), gas["lr"].values, gas["weight_decay"].values)
            row[0].set_ylabel(f"{gas.attrs['protocol']}\nlog λ", fontsize=8)
        return figure


def draw_nine_maps(row: Sequence[Axes], energies: Floats, lr: Floats, weight_decay: Floats) -> None:
    """Draw, on nine axes, energies [lr, decay, lr of state, decay of state] at corners, edges and middle."""
    first, second = energies.shape[:2]
    places = [(i, j) for i in (0, first // 2, first - 1) for j in (0, second // 2, second - 1)]
    for axes, (i, j) in zip(row, places, strict=True):
        axes.set_title(f"η {lr[i]:.2g}, λ {weight_decay[j]:.2g}", fontsize=8)
        axes.set_xlabel("log η", fontsize=8)
        if np.isfinite(energies[i, j]).any():
            _draw_gibbs(axes, energies[i, j], (i, j))


def _draw_gibbs(axes: Axes, energy: Floats, own: tuple[int, int]) -> None:
    above = energy - np.nanmin(energy)
    axes.imshow(np.sqrt(above.T), origin="lower", cmap="viridis", aspect="auto")
    least = np.unravel_index(int(np.nanargmin(energy)), energy.shape)
    axes.plot(*own, "o", mfc="none", mec="white", ms=11)
    axes.plot(*least, "x", color=ORANGE, ms=7, mew=2)
    axes.set(xticks=[], yticks=[])


def calibration_free_energies(sweeps: Mapping[float, xr.Dataset]) -> Figure:
    """Draw F = U - T S of all learning rates at the T of some of them, on spheres of several radii.

    Chains on a sphere of radius r are those on the unit sphere, r times as large: their S is larger by
    (D - 1) log r, and F is least at the same learning rate.

    Parameters
    ----------
    sweeps : mapping of float to Dataset
        By radius, as `pythermo.studies.calibration.sphere_sweep` makes them, each with draws of its own.

    Returns
    -------
    Figure
        A panel for each radius; rings are the learning rate whose T it is, crosses the least F.
    """
    with own_style():
        figure = Figure(figsize=(3.5 * len(sweeps), 3.6), layout="constrained")
        panels = figure.subplots(1, len(sweeps), squeeze=False)[0]
        for axes, (radius, sweep) in zip(panels, sweeps.items(), strict=True):
            for place, color in zip(
                range(2, sweep.sizes["lr"] - 1, 2), shades(sweep.sizes["lr"] // 2), strict=False
            ):
                free = free_energies(sweep, radius)[place]
                temperature = float(sweep["temperature_theory"][place])
                scaled = (free - free.min()) / temperature
                axes.plot(sweep["lr"], scaled, "-", color=color, lw=1.2, label=f"T = {temperature:.2g}")
                axes.plot(sweep["lr"][place], scaled[place], "o", mfc="none", color=color, ms=10)
                axes.plot(sweep["lr"][int(free.argmin())], 0.0, "x", color=color, ms=7)
            axes.set(xscale="log", xlabel="effective learning rate η", title=f"r = {radius:g}")
            axes.set_ylim(-0.1, 3.0)
        figure.axes[0].set_ylabel("(F - least F) / T (nats)")
        legend_beside(figure.axes[-1], figure.axes[-1])
        return figure


def free_energies(sweep: xr.Dataset, radius: float) -> Floats:
    """Return F on a sphere of a radius [lr whose T it is at, lr of the state] (loss units)."""
    entropy = sweep["entropy"].values + (sweep.attrs["dim"] - 1) * np.log(radius)
    found: Floats = sweep["energy"].values - sweep["temperature_theory"].values[:, None] * entropy
    return found


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
