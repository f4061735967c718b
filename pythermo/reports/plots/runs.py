"""Curves along the runs of a sweep; the legend switches learning rates on and off."""

import numpy as np
import plotly.graph_objects as go

from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import with_seeds
from pythermo.config.preset import FIGURE_K
from pythermo.reports.plots.style import blank, shades
from pythermo.training.quantities import QUANTITIES

# Learning rates that are drawn at most, from the smallest to the largest, in equal steps.
_SHOWN = 16


def along_runs_plot(setup: Setup, name: str) -> go.Figure:
    """Draw a measured quantity against the iteration, the mean over the seeds that are known."""
    quantity = QUANTITIES[name]
    logarithmic = not quantity.by_neighbors
    figure = blank(setup.title, "iteration", quantity.label, log_y=logarithmic)
    values = with_seeds(setup.dataset)[name]
    values = values.sel(k=FIGURE_K) if quantity.by_neighbors else values
    means = values.mean("seed").transpose("lr", "iteration").isel(iteration=slice(1, None))
    chosen = np.unique(np.linspace(0, means.sizes["lr"] - 1, _SHOWN).round().astype(int))
    for index, color in zip(chosen, shades(len(chosen)), strict=True):
        one = means.isel(lr=index)
        known = np.isfinite(one.values) & ((one.values > 0.0) | (not logarithmic))
        figure.add_scatter(
            x=one["iteration"].values[known],
            y=one.values[known],
            mode="lines",
            name=f"{float(one['lr']):.3g}",
            line={"color": color, "width": 1.5},
            hovertemplate="iteration %{x}: %{y:.5g}<extra>η = %{fullData.name}</extra>",
        )
    figure.update_layout(legend={"title": {"text": "η"}})
    return figure
