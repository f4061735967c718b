"""Interactive plots of sweeps over two axes: weights as a gas."""

from collections.abc import Callable
from functools import partial

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from pythermo.analysis.gas_laws import longest_side
from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import second_axis
from pythermo.figures.gas import ALONG_PATH, AXIS_LABELS, SHORT, label
from pythermo.figures.style import BLUE, LR_LABEL
from pythermo.reports.plots.style import GRAY, add_points, blank, say, shades


def state_plot(setup: Setup, name: str) -> go.Figure:
    """Plot a value of the states against the learning rate, a line for each value of the other axis."""
    cells = setup.gas.cells
    other = second_axis(cells)
    figure = blank(setup.title, LR_LABEL, label(cells, name), log_y=name in ("norm", "temperature"))
    for value, color in zip(cells[other].values, shades(cells.sizes[other]), strict=True):
        one = cells.sel({other: value})
        _add(figure, one["lr"].values, one, name, f"{SHORT[other]} = {value:.3g}", color)
    return figure


def _add(figure: go.Figure, x: np.ndarray, one: xr.Dataset, name: str, text: str, color: str) -> None:
    interval = one[f"{name}_interval"].transpose(..., "bound").values
    add_points(figure, x, one[name].values, text, color, interval)


def isotherms_plot(setup: Setup) -> go.Figure:
    """Plot p against V at each learning rate, and dashed that of an ideal gas."""
    cells = setup.gas.cells
    figure = blank(setup.title, label(cells, "volume"), label(cells, "pressure"), log_y=True)
    for lr, color in zip(cells["lr"].values, shades(cells.sizes["lr"]), strict=True):
        one = cells.sel(lr=lr)
        _add(figure, one["volume"].values, one, "pressure", f"η = {lr:.3g}", color)
        figure.add_scatter(
            x=one["volume"].values,
            y=one["pressure_ideal"].values,
            mode="lines",
            line={"color": color, "dash": "dash", "width": 1},
            name=f"ideal gas, η = {lr:.3g}",
            showlegend=False,
        )
    return figure


def compressibility_plot(setup: Setup) -> go.Figure:
    """Plot Z of each cell against 1 + SNR^2."""
    cells = setup.gas.cells
    stacked = cells.stack(cell=("lr", second_axis(cells))).reset_index("cell")
    x = 1.0 + stacked["squared_snr"].values
    figure = blank(setup.title, "1 + SNR²", label(cells, "compressibility"), log_y=True)
    notes = [
        f"η = {lr:.3g}, {SHORT[second_axis(cells)]} = {value:.3g}"
        for lr in cells["lr"].values
        for value in cells[second_axis(cells)].values
    ]
    interval = stacked["compressibility_interval"].transpose("cell", "bound").values
    add_points(
        figure, x, stacked["compressibility"].values, "cells", BLUE, interval, mode="markers", notes=notes
    )
    ends = np.array([1.0, np.nanmax(x, initial=1.0)])
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": GRAY, "width": 1}, name="Z = 1 + SNR²")
    return figure


def gibbs_plot(setup: Setup) -> go.Figure:
    """Plot by how many cells the least Gibbs energy is off."""
    found, other = setup.gas.gibbs, second_axis(setup.gas.cells)
    figure = blank(setup.title, LR_LABEL, AXIS_LABELS[other], log_y=True)
    if isinstance(found, str):
        return say(figure, f"not known: {found}")
    off = found["off"].transpose(other, "lr").values
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    figure.add_heatmap(
        x=[f"{lr:.3g}" for lr in found["lr"].values],
        y=[f"{value:.3g}" for value in found[other].values],
        z=off,
        text=[[f"{value:.0f}" if np.isfinite(value) else "" for value in row] for row in off],
        texttemplate="%{text}",
        colorscale="Viridis",
        reversescale=True,
        colorbar={"title": {"text": "cells"}},
    )
    return figure


def isentrope_plot(setup: Setup) -> go.Figure:
    """Plot the change of S along T r^2 = const."""
    path = setup.gas.isentrope
    if isinstance(path, str) or path.sizes["point"] == 0:
        return say(
            blank(setup.title, "", ""), path if isinstance(path, str) else "the grid holds no T r² = const"
        )
    along = longest_side(path)
    figure = blank(setup.title, ALONG_PATH[along], "change of S (nats)")
    _add(figure, path[along].values, path, "entropy_change", "measured", BLUE)
    figure.add_hline(y=0.0, line={"color": GRAY, "dash": "dash", "width": 1}, annotation_text="ideal gas")
    return figure


PLOTS: tuple[tuple[Callable[[Setup], go.Figure], str], ...] = (
    (partial(state_plot, name="norm"), "Norm of the weights."),
    (partial(state_plot, name="temperature"), "T of the noise."),
    (partial(state_plot, name="energy"), "U of the last measurements."),
    (partial(state_plot, name="entropy"), "S of the last windows, (D - 1) log r included."),
    (isotherms_plot, "Isotherms. Dashed, an ideal gas at the same T."),
    (compressibility_plot, "Deviation from an ideal gas: the squared signal-to-noise ratio of the gradient."),
    (gibbs_plot, "By how many cells the least Gibbs energy is off, at the T and p of each cell."),
    (isentrope_plot, "S along T r² = const, where an ideal gas has one entropy."),
)
