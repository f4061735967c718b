"""Figures of sweeps over two axes: weights as a gas."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from pythermo.analysis.gas_laws import GasAnalysis, longest_side
from pythermo.analysis.stationary import second_axis, with_seeds
from pythermo.figures.calibration import draw_nine_maps
from pythermo.figures.style import (
    BLUE,
    GRAY,
    LR_LABEL,
    distinct,
    label_short_axis,
    legend_beside,
    own_style,
    require_some,
    say,
    shades,
)
from pythermo.training.quantities import QUANTITIES

AXIS_LABELS = {"weight_decay": "weight decay λ", "radius": "radius r"}
SHORT = {"weight_decay": "λ", "radius": "r"}

# The end of an axis over its beginning from which labels between powers of ten have no room.
_CROWDED = 30.0
ALONG_PATH = {
    "lr": f"{LR_LABEL}, λ changing with it",
    "weight_decay": f"{AXIS_LABELS['weight_decay']}, η changing with it",
}
_STATES = ("norm", "temperature", "energy", "entropy")


def label(cells: xr.Dataset, name: str) -> str:
    """Return a value's meaning and unit."""
    attrs = cells[name].attrs
    return str(attrs["long_name"]) + ("" if attrs["units"] == "1" else f" ({attrs['units']})")


def _label(axis: Axis) -> None:
    """Label more than powers of ten where there is room for it."""
    low, high = axis.get_view_interval()
    if high < _CROWDED * low:
        label_short_axis(axis)


def gas_states(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw r, T, U and S against the learning rate, a line for each value of the other axis, a row per sweep.

    Crosses are the norm that the law to first order has for the mean squared gradient.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(15.0, 3.3 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 4, squeeze=False)
        for (title, found), row in zip(titled.items(), rows, strict=True):
            cells = found.cells
            for axes, name in zip(row, _STATES, strict=True):
                _draw_states(axes, cells, name)
            row[0].set_title(title)
            legend_beside(row[-1], row[-1])
        return figure


def _draw_states(axes: Axes, cells: xr.Dataset, name: str) -> None:
    other = second_axis(cells)
    for value, color in zip(cells[other].values, shades(cells.sizes[other]), strict=True):
        one = cells.sel({other: value})
        _points(axes, one["lr"].values, one, name, f"{SHORT[other]} = {value:.3g}", color)
        if name == "norm":
            axes.plot(one["lr"], one["norm_predicted"], "x", color=color)
    axes.set_xscale("log")
    if name in ("norm", "temperature"):
        axes.set_yscale("log")
        _label(axes.yaxis)
    axes.set_xlabel(LR_LABEL)
    axes.set_ylabel(label(cells, name))
    _label(axes.xaxis)


def _points(
    axes: Axes, x: np.ndarray, one: xr.Dataset, name: str, text: str, color: object, style: str = "o-"
) -> None:
    """Draw values with their intervals, where these are known."""
    value = one[name].values
    low, high = (one[f"{name}_interval"].sel(bound=bound).values for bound in ("low", "high"))
    errors = np.nan_to_num(np.stack([value - low, high - value]))
    axes.errorbar(x, value, errors, fmt=style, color=color, label=text, elinewidth=1.0, linewidth=1.2)


# What T and the noise are functions of in theory, alone.
_COLLAPSE = {
    "fixed-elr": "effective learning rate η",
    "fixed-lr": "ηλ",
    "sphere": "effective learning rate η/r²",
}


def collapsed(cells: xr.Dataset) -> xr.DataArray:
    """Return that of which T and the noise are functions in theory, of each cell."""
    match cells.attrs["protocol"]:
        case "fixed-lr":
            return cells["lr"] * cells["weight_decay"]
        case "fixed-elr":
            return cells["lr"] + 0.0 * cells[second_axis(cells)]
        case _:
            return cells["lr"] / cells["radius"] ** 2


def gas_collapse(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw the noise's variance and T against that of which they are functions in theory, a row per sweep.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(9.6, 3.2 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 2, squeeze=False)
        for (title, found), row in zip(titled.items(), rows, strict=True):
            cells, other = found.cells, second_axis(found.cells)
            for axes, name in zip(row, ("noise_variance", "temperature"), strict=True):
                for value, color in zip(cells[other].values, shades(cells.sizes[other]), strict=True):
                    one, x = cells.sel({other: value}), collapsed(cells).sel({other: value}).values
                    _points(axes, x, one, name, f"{SHORT[other]} = {value:.3g}", color)
                axes.set(xscale="log", yscale="log", xlabel=_COLLAPSE[cells.attrs["protocol"]])
                axes.set_ylabel(label(cells, name))
                _label(axes.xaxis)
                _label(axes.yaxis)
            row[0].set_title(title)
            legend_beside(row[1], row[1])
        return figure


def gas_isotherms(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw p against V at each learning rate, dashed that of an ideal gas with the same T, a panel per sweep.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(5.6 * len(titled), 4.0), layout="constrained")
        row = figure.subplots(1, len(titled), squeeze=False)[0]
        for (title, found), axes in zip(titled.items(), row, strict=True):
            cells = found.cells
            for lr, color in zip(cells["lr"].values, shades(cells.sizes["lr"]), strict=True):
                one = cells.sel(lr=lr)
                axes.plot(one["volume"], one["pressure"], "o-", color=color, label=f"η = {lr:.3g}")
                axes.plot(one["volume"], one["pressure_ideal"], "--", color=color, linewidth=1.0)
            axes.set(xscale="log", yscale="log", title=title)
            axes.set_xlabel(label(cells, "volume"))
            axes.set_ylabel(label(cells, "pressure"))
            _label(axes.xaxis)
            axes.plot([], [], "--", color=GRAY, label="ideal gas")
            legend_beside(axes, axes)
        return figure


def gas_compressibility(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw Z of each cell against 1 + SNR^2, which it is in theory; an ideal gas has 1.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(6.6, 4.4), layout="constrained")
        axes = figure.subplots()
        largest = 1.0
        for (title, found), (color, marker) in zip(titled.items(), distinct(), strict=False):
            cells = found.cells.stack(cell=("lr", second_axis(found.cells)))
            x, one = 1.0 + cells["squared_snr"].values, cells.reset_index("cell")
            _points(axes, x, one, "compressibility", title, color, marker)
            largest = max(largest, float(np.nanmax(x, initial=1.0)))
        axes.plot([1.0, largest], [1.0, largest], color=GRAY, linewidth=1.0, label="Z = 1 + SNR²")
        axes.axhline(1.0, color=GRAY, linestyle="--", linewidth=1.0, label="ideal gas")
        axes.set_xlabel("1 + SNR² of minibatch gradients")
        axes.set_ylabel(label(next(iter(titled.values())).cells, "compressibility"))
        legend_beside(axes, axes)
        return figure


def gas_gibbs(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw by how many cells the least Gibbs energy is off at the T and p of each, a panel per sweep.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title.

    Returns
    -------
    Figure
    """
    require_some("titled", titled)
    with own_style({"axes.grid": False}):
        figure = Figure(figsize=(4.6 * len(titled), 4.0), layout="constrained")
        row = figure.subplots(1, len(titled), squeeze=False)[0]
        for (title, found), axes in zip(titled.items(), row, strict=True):
            axes.set_title(title)
            if isinstance(found.gibbs, str):
                say(axes, found.gibbs)
                continue
            _draw_offsets(axes, found.gibbs)
        return figure


def _draw_offsets(axes: Axes, gibbs: xr.Dataset) -> None:
    other = second_axis(gibbs)
    off = gibbs["off"].transpose(other, "lr").values
    most = max(int(np.nanmax(off, initial=0.0)), 1)
    colors = BoundaryNorm(np.arange(-0.5, most + 1.5), 256)
    axes.imshow(off, origin="lower", cmap="viridis_r", norm=colors, aspect="auto")
    for (row, column), value in np.ndenumerate(off):
        dark, text = value > most / 2, f"{value:.0f}" if np.isfinite(value) else ""
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(off.shape[1]), [f"{lr:.2g}" for lr in gibbs["lr"].values])
    axes.set_yticks(range(off.shape[0]), [f"{value:.2g}" for value in gibbs[other].values])
    axes.set_xlabel(LR_LABEL)
    axes.set_ylabel(AXIS_LABELS[other])


def gas_gibbs_maps(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw the Gibbs energy of all states at the T and p of nine cells, a row per sweep.

    Rings are the cell whose T and p it is, crosses the least energy.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title, one of them in full space at least.

    Returns
    -------
    Figure
    """
    free = _in_full_space(titled)
    with own_style({"axes.grid": False}):
        figure = Figure(figsize=(15.0, 2.1 * len(free) + 0.6), layout="constrained")
        rows = figure.subplots(len(free), 9, squeeze=False)
        for (title, found), row in zip(free.items(), rows, strict=True):
            row[0].set_ylabel(f"{title}\nlog λ", fontsize=8)
            if isinstance(found.gibbs, str):
                say(row[4], found.gibbs)
                continue
            energies = found.gibbs["energy"].values
            draw_nine_maps(row, energies, found.gibbs["lr"].values, found.gibbs["weight_decay"].values)
        return figure


def _in_full_space(titled: Mapping[str, GasAnalysis]) -> dict[str, GasAnalysis]:
    require_some("titled", titled)
    free = {title: found for title, found in titled.items() if second_axis(found.cells) == "weight_decay"}
    require_some("titled", free)
    return free


def gas_runs(titled: Mapping[str, xr.Dataset]) -> Figure:
    """Draw norm and U along runs at each learning rate, at the middle of the other axis, a row per sweep.

    On spheres, whose norm is given, the pressure in the place of the norm.

    Parameters
    ----------
    titled : mapping of str to Dataset
        Sweeps over two axes by title, as `pythermo.sweep` returns them.

    Returns
    -------
    Figure
        Means over seeds, of norm and pressure over the steps between two measurements.
    """
    require_some("titled", titled)
    with own_style():
        figure = Figure(figsize=(10.4, 3.2 * len(titled)), layout="constrained")
        rows = figure.subplots(len(titled), 2, squeeze=False)
        for (title, sweep), row in zip(titled.items(), rows, strict=True):
            other = second_axis(sweep)
            middle = sweep.isel({other: sweep.sizes[other] // 2})
            free, text = middle["mean_r2"] ** 0.5, "rms norm r (weight units)"
            if other == "radius":
                free = (middle["mean_next_r2"] / middle["mean_r2"] - 1.0) / (2.0 * middle["lr"])
                text = QUANTITIES["pressure"].label
            shown = ((free, text), (middle["loss"], QUANTITIES["loss"].label))
            for axes, (values, meaning) in zip(row, shown, strict=True):
                means = with_seeds(values.to_dataset(name="value"))["value"].mean("seed")
                for lr, color in zip(means["lr"].values, shades(means.sizes["lr"]), strict=True):
                    one = means.sel(lr=lr)
                    axes.plot(one["iteration"] + 1, one, color=color, label=f"η = {lr:.3g}")
                axes.set(xscale="log", yscale="log", xlabel="iteration + 1", ylabel=meaning)
                _label(axes.yaxis)
            row[0].set_title(f"{title}, {SHORT[other]} = {float(middle[other]):.3g}")
            legend_beside(row[1], row[1])
        return figure


def gas_isentropes(titled: Mapping[str, GasAnalysis]) -> Figure:
    """Draw the change of S along T r^2 = const, where an ideal gas has none, beside that of a whole sweep.

    Parameters
    ----------
    titled : mapping of str to GasAnalysis
        Analyzed sweeps by title, one of them in full space at least.

    Returns
    -------
    Figure
    """
    free = _in_full_space(titled)
    with own_style():
        figure = Figure(figsize=(4.8 * len(free), 3.8), layout="constrained")
        row = figure.subplots(1, len(free), squeeze=False)[0]
        for (title, found), axes in zip(free.items(), row, strict=True):
            axes.set_title(title)
            path = found.isentrope
            if isinstance(path, str) or path.sizes["point"] == 0:
                say(axes, path if isinstance(path, str) else "the grid holds no T r² = const")
                continue
            along = longest_side(path)
            _points(axes, path[along].values, path, "entropy_change", "measured", BLUE)
            axes.axhline(0.0, color=GRAY, linestyle="--", linewidth=1.0, label="ideal gas")
            axes.set_xscale("log")
            axes.set_xlabel(ALONG_PATH[along])
            axes.set_ylabel("change of S (nats)")
            _label(axes.xaxis)
            axes.legend(fontsize=8)
        return figure
