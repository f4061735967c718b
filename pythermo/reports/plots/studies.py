"""Interactive plots of the studies: what was measured beside theory."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from pythermo.estimators.temperature import PowerLaw, TemperatureFit
from pythermo.figures.style import BLUE, GREEN, LR_LABEL
from pythermo.reports.plots.style import COLORS, GRAY, SYMBOLS, add_points, blank, shades
from pythermo.training.quantities import QUANTITIES


def beside_theory_plot(sweeps: Sequence[xr.Dataset], name: str) -> go.Figure:
    """Draw by how many per cent what was measured is above theory, on spheres of several dimensions."""
    figure = blank(f"{name}, beside theory", LR_LABEL, "above theory (%)")
    for sweep, color, symbol in zip(sweeps, COLORS, SYMBOLS, strict=False):
        above = 100.0 * (sweep[name] / sweep[f"{name}_theory"] - 1.0)
        add_points(
            figure, sweep["lr"].values, above.values, f"D = {sweep.attrs['dim']}", color, symbol=symbol
        )
    figure.add_hline(y=0.0, line={"color": GRAY, "dash": "dash", "width": 1})
    return figure


def radius_plot(gas: xr.Dataset) -> go.Figure:
    """Draw the radius over that of the ideal gas against the weight decay, for each learning rate."""
    figure = blank(gas.attrs["protocol"], "weight decay λ", "r / theory")
    for index, color in enumerate(shades(gas.sizes["lr"])):
        one = gas.isel(lr=index)
        ratio = (one["radius"] / one["radius_theory"]).values
        add_points(figure, one["weight_decay"].values, ratio, f"η = {float(one['lr']):.3g}", color)
    return figure


def coverage_plot(covered: Mapping[str, xr.DataArray]) -> go.Figure:
    """Draw how often 90 % intervals of T hold the truth [repetition, lr], by what they were tried on."""
    figure = blank("intervals of T", LR_LABEL, "hold the truth (%)")
    for (title, one), color, symbol in zip(covered.items(), COLORS, SYMBOLS, strict=False):
        share = 100.0 * one.mean("repetition").values
        add_points(figure, one["lr"].values, share, title, color, symbol=symbol)
    figure.add_hline(y=90.0, line={"color": GRAY, "dash": "dash", "width": 1})
    return figure


def snr_by_distance_plot(found: Mapping[str, xr.Dataset], laws: Mapping[str, PowerLaw]) -> go.Figure:
    """Draw the SNR against the distance from an optimum, the mean over directions, and its power law."""
    axis = "distance from the optimum"
    figure = blank("Lemma 1", axis, QUANTITIES["snr"].label, log_y=True)
    for (name, one), color, symbol in zip(found.items(), COLORS, SYMBOLS, strict=False):
        title = f"{name.upper()}: SNR ∝ distance^{laws[name].exponent:.2f}"
        mean = one["snr"].mean("direction").values
        add_points(figure, one["distance"].values, mean, title, color, symbol=symbol)
    return figure


def toy_state_plot(states: xr.Dataset, name: str, label: str) -> go.Figure:
    """Draw stationary U or S of the underparameterized toy."""
    figure = blank("UP", LR_LABEL, label)
    add_points(figure, states["lr"].values, states[name].values, label, BLUE)
    return figure


def toy_temperature_plot(fit: TemperatureFit) -> go.Figure:
    """Draw T of the underparameterized toy with the interval of each state."""
    figure = blank("UP", LR_LABEL, "temperature T (loss units per nat)", log_y=True)
    interval = np.stack([fit.lower, fit.upper], axis=1)
    add_points(figure, fit.lr, fit.temperature, "T", GREEN, interval)
    return figure


def toy_losses_plot(runs: Mapping[str, xr.Dataset]) -> go.Figure:
    """Draw the last losses above the minimum of the paper's runs."""
    figure = blank("after the last step", LR_LABEL, "loss above its minimum", log_y=True)
    for (name, run), color, symbol in zip(runs.items(), COLORS, SYMBOLS, strict=False):
        last = run["excess_loss"].isel(step=-1, replica=0).values
        add_points(figure, run["lr"].values, last, name, color, symbol=symbol, mode="markers")
    return figure
