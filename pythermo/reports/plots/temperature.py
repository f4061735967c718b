"""Temperatures of a sweep: the surface whose slope they are, all thermometers, and the free energy."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import shown_error
from pythermo.analysis.thermometers import TEMPERATURES
from pythermo.estimators.temperature import free_energy
from pythermo.figures.style import BLUE, GREEN, LR_LABEL, ORANGE
from pythermo.reports.plots.stationary import mean_notes, member_notes
from pythermo.reports.plots.style import COLORS, GRAY, SYMBOLS, add_members, add_points, blank, say
from pythermo.training.quantities import QUANTITIES

_SLIDER_STEPS = 31


def temperature_plot(setup: Setup) -> go.Figure:
    """Draw T by dU/dS with its intervals over seeds, and the law through it."""
    figure = blank(setup.title, LR_LABEL, "temperature T (loss units per nat)", log_y=True)
    estimate = setup.estimate
    if isinstance(estimate, str):
        return say(figure, f"no temperature: {estimate}")
    name = "T = dU/dS"
    if estimate.interval is not None:
        name += f", {estimate.confidence:.0%} over {estimate.seeds} seeds"
    add_points(figure, estimate.lr, estimate.temperature, name, GREEN, estimate.interval, mode="markers")
    if np.isfinite(estimate.exponent):
        law = estimate.reference_temperature * (estimate.lr / estimate.reference_lr) ** estimate.exponent
        figure.add_scatter(
            x=estimate.lr,
            y=law,
            mode="lines",
            name=f"η^{estimate.exponent:.2f}",
            line={"color": GRAY, "dash": "dash"},
        )
    return figure


def thermometers_plot(setup: Setup) -> go.Figure:
    """Draw all temperatures against the learning rate on one axis, with their intervals."""
    figure = blank(setup.title, LR_LABEL, "temperature T (loss units per nat)", log_y=True)
    found = setup.thermometers
    names = [name for name in TEMPERATURES if name in found and (found[name] > 0.0).any()]
    if not names:
        return say(figure, "no temperature is known")
    for name, color, symbol in zip(names, COLORS, SYMBOLS, strict=False):
        interval = found[f"{name}_interval"].transpose("lr", "bound").values
        label = found[name].attrs["long_name"]
        add_points(figure, found["lr"].values, found[name].values, label, color, interval, symbol)
    return figure


def surface_plot(setup: Setup) -> go.Figure:
    """Draw U against S with the convex curve whose slope is T: a jump shows as points above it."""
    figure = blank(setup.title, QUANTITIES["entropy"].label, QUANTITIES["loss"].label, log_x=False)
    _, energy, entropy, notes = member_notes(setup)
    add_members(figure, entropy, energy, notes)
    estimate, values = setup.estimate, setup.stationary
    if not isinstance(estimate, str):
        order = np.argsort(estimate.entropy)
        figure.add_scatter(
            x=estimate.entropy[order],
            y=estimate.energy[order],
            mode="lines",
            name="convex curve",
            line={"color": ORANGE, "width": 2},
        )
    u, error = values["energy"].values, shown_error(values, "energy")
    add_points(
        figure,
        values["entropy"].values,
        u,
        "means over seeds",
        BLUE,
        np.stack([u - error, u + error], axis=1),
        mode="markers",
        notes=mean_notes(setup),
    )
    return figure


def free_energy_plot(setup: Setup) -> go.Figure:
    """Draw F = U - T S less its minimum, of learning rates of the fit, with a slider for T."""
    figure = blank(setup.title, LR_LABEL, "F less its minimum (loss units)")
    estimate = setup.estimate
    if isinstance(estimate, str) or not (estimate.temperature > 0.0).any():
        return say(figure, "no temperature is known, and without one no free energy")
    known = estimate.temperature[estimate.temperature > 0.0]
    temperatures = np.geomspace(known.min() / 2, known.max() * 2, _SLIDER_STEPS)
    curves = [free_energy(estimate.energy, estimate.entropy, float(one)) for one in temperatures]
    curves = [one - one.min() for one in curves]
    at = int(np.abs(np.log(temperatures / np.median(known))).argmin())
    figure.add_scatter(
        x=estimate.lr, y=curves[at], mode="lines+markers", name="F", line={"color": BLUE},
        hovertemplate="η = %{x:.4g}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[estimate.lr[curves[at].argmin()]], y=[0.0], mode="markers", name="minimum",
        marker={"color": ORANGE, "size": 13, "symbol": "star"}, hovertemplate="η = %{x:.4g}<extra></extra>",
    )  # fmt: skip
    steps = [
        {
            "method": "restyle",
            "label": f"{temperature:.2e}",
            "args": [{"y": [curve, [0.0]], "x": [estimate.lr, [estimate.lr[curve.argmin()]]]}, [0, 1]],
        }
        for temperature, curve in zip(temperatures, curves, strict=True)
    ]
    _add_slider(figure, steps, at)
    return figure


def _add_slider(figure: go.Figure, steps: list[dict[str, Any]], at: int) -> None:
    """Let a slider under a figure take these steps; their labels show above it alone."""
    slider = {
        "active": at, "steps": steps, "pad": {"t": 50}, "ticklen": 0, "minorticklen": 0,
        "currentvalue": {"prefix": "T = ", "font": {"size": 13, "color": "black"}},
        "font": {"color": "rgba(0,0,0,0)", "size": 1},
    }  # fmt: skip
    above = {"y": 1.0, "x": 1.0, "xanchor": "right", "yanchor": "bottom"}
    figure.update_layout(height=470, sliders=[slider], legend=above)


def drifts_plot(setup: Setup) -> go.Figure:
    """Draw the drifts of U and S between the last quarters in units of the largest that does not matter."""
    figure = blank(setup.title, LR_LABEL, "drift / the largest that does not matter")
    found = setup.analysis.stationarity
    if isinstance(found, str):
        return say(figure, f"not known: {found}")
    figure.add_hrect(y0=-1.0, y1=1.0, fillcolor=GREEN, opacity=0.12, line_width=0)
    for name, label, color, symbol in (("energy", "U", BLUE, "circle"), ("entropy", "S", ORANGE, "square")):
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = found[f"{name}_tolerance"].values
            drift = found[f"{name}_drift"].values / unit
            interval = found[f"{name}_interval"].transpose("lr", "bound").values / unit[:, None]
        add_points(figure, found["lr"].values, drift, label, color, interval, symbol, mode="markers")
    figure.update_yaxes(range=[-4.0, 4.0])
    return figure
