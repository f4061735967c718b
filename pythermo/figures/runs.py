"""Figures of what happens along the runs of a sweep."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythermo.analysis.gradients import GradientLaw, pooled_gradients
from pythermo.analysis.stationary import standard_error, with_seeds
from pythermo.config.preset import FIGURE_K
from pythermo.figures.style import distinct, label_short_axis, legend_beside, own_style, require_some, shades
from pythermo.training.quantities import QUANTITIES


def values_along_runs(sweeps: Mapping[str, xr.Dataset], runs: int = 12) -> Figure:
    """Draw U and S against the iteration, for some learning rates from the smallest to the largest.

    Parameters
    ----------
    sweeps : mapping of str to Dataset
        Measurements with the dimensions lr, iteration, k and perhaps seed, by title; one row each.
    runs : int
        Number of learning rates shown.

    Returns
    -------
    Figure
    """
    require_some("sweeps", sweeps)
    with own_style():
        figure = Figure(figsize=(11.5, 3.6 * len(sweeps)), layout="constrained")
        rows = figure.subplots(len(sweeps), 2, squeeze=False)
        for (title, sweep), (left, right) in zip(sweeps.items(), rows, strict=True):
            for axes, name in ((left, "loss"), (right, "entropy")):
                draw_along_runs(axes, sweep, name, runs)
                axes.set_title(title)
            label_short_axis(right.xaxis)
            legend_beside(right, left)
        return figure


def draw_along_runs(axes: Axes, sweep: xr.Dataset, name: str, runs: int) -> None:
    """Draw a measured quantity, the mean over seeds in a band of its error, of some learning rates."""
    quantity, sweep = QUANTITIES[name], with_seeds(sweep)
    measured = sweep[name].sel(k=FIGURE_K) if quantity.by_neighbors else sweep[name]
    chosen = np.unique(np.linspace(0, sweep.sizes["lr"] - 1, runs).round().astype(int))
    for index, color in zip(chosen, shades(len(chosen)), strict=True):
        values = measured.isel(lr=index).isel(iteration=slice(1, None))  # 0 has no place on a log axis
        label = f"η = {float(values['lr']):.2g}"
        _draw_with_error(axes, values.mean("seed"), standard_error(values), color, label)
    axes.set(xscale="log", xlabel="iteration", ylabel=quantity.label)
    if not quantity.by_neighbors:
        axes.set_yscale("log")


def _draw_with_error(axes: Axes, values: xr.DataArray, error: xr.DataArray, color: Any, label: str) -> None:
    """Draw values [iteration] as a line, in a band of their errors where these are known."""
    axes.plot(values["iteration"], values, color=color, lw=1.0, label=label)
    if error.notnull().any():
        axes.fill_between(values["iteration"], values - error, values + error, color=color, alpha=0.25, lw=0)


def gradients_along_runs(sweeps: Mapping[str, xr.Dataset], runs: int = 4) -> Figure:
    """Draw |G|, mean |g| and the SNR against the iteration, at the smallest learning rates.

    Parameters
    ----------
    sweeps : mapping of str to Dataset
        Measurements with the dimensions lr, iteration, k and perhaps seed, by title; one row each.
    runs : int
        Number of learning rates, from the smallest.

    Returns
    -------
    Figure
        An estimate of |G|^2 that is negative has no root: these points are left out.
    """
    require_some("sweeps", sweeps)
    with own_style():
        figure = Figure(figsize=(13.5, 3.6 * len(sweeps)), layout="constrained")
        rows = figure.subplots(len(sweeps), 3, squeeze=False, sharex="row")
        for (title, sweep), row in zip(sweeps.items(), rows, strict=True):
            count, pooled = min(runs, sweep.sizes["lr"]), pooled_gradients(sweep)
            for axes, name in zip(row, ("full_grad_norm", "mean_grad_norm", "snr"), strict=True):
                for index, color in zip(range(count), shades(count), strict=True):
                    one = pooled.isel(lr=index).isel(iteration=slice(1, None))
                    one = one.isel(iteration=(one[name] > 0.0).values)
                    label = f"η = {float(one['lr']):.2g}"
                    _draw_with_error(axes, one[name], one[f"{name}_error"], color, label)
                axes.set(
                    title=title, xlabel="iteration", ylabel=QUANTITIES[name].label, xscale="log", yscale="log"
                )
            legend_beside(row[2], row[0])
        return figure


def stochastic_against_full_gradient(laws: Mapping[str, GradientLaw]) -> Figure:
    """Draw mean |g| against |G| on the way to an optimum, with power laws: a phase plot.

    Parameters
    ----------
    laws : mapping of str to GradientLaw
        By title: of several sizes of the training set, say.

    Returns
    -------
    Figure
        Source: arXiv 2505.23489.
    """
    require_some("laws", laws)
    with own_style():
        figure = Figure(figsize=(6.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for (title, found), (color, marker) in zip(laws.items(), distinct(), strict=False):
            law = found.law
            known = f"{title}: {law.prefactor:.2g} · |G|^{law.exponent:.2f}"
            axes.plot(found.full, found.minibatch, marker, color=color, ms=3, alpha=0.5, label=known)
            if np.isfinite(law.exponent):
                ends = np.array([found.full.min(), found.full.max()])
                axes.plot(ends, law.prefactor * ends**law.exponent, color=color, lw=1.2)
        axes.set(
            xlabel=QUANTITIES["full_grad_norm"].label,
            ylabel=QUANTITIES["mean_grad_norm"].label,
            xscale="log",
            yscale="log",
        )
        for axis in (axes.xaxis, axes.yaxis):
            label_short_axis(axis)
        axes.legend(fontsize=8)
        return figure
