"""Figures of what happens along the runs of a sweep."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pythermo.experiment.analysis import late_gradient_norms
from pythermo.experiment.config import FIGURE_K
from pythermo.figures.style import STYLE, distinct, label_short_axis, legend_beside, shades
from pythermo.temperature import fit_power_law


def values_along_runs(sweeps: Mapping[str, xr.Dataset], runs: int = 12) -> Figure:
    """Draw U and S against the iteration, for some learning rates from the smallest to the largest.

    Parameters
    ----------
    sweeps : mapping of str to Dataset
        Measurements with the dimensions lr, iteration, k, by title; one row each.
    runs : int
        Number of learning rates shown.

    Returns
    -------
    Figure
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.6 * len(sweeps)), layout="constrained")
        rows = figure.subplots(len(sweeps), 2, squeeze=False)
        for (title, sweep), (left, right) in zip(sweeps.items(), rows, strict=True):
            chosen = np.unique(np.linspace(0, sweep.sizes["lr"] - 1, runs).round().astype(int))
            for index, colour in zip(chosen, shades(len(chosen)), strict=True):
                one = sweep.isel(lr=index).isel(iteration=slice(1, None))  # 0 has no place on a log axis
                label = f"η = {float(one['lr']):.2g}"
                left.plot(one["iteration"], one["loss"], color=colour, lw=1.0, label=label)
                right.plot(one["iteration"], one["entropy"].sel(k=FIGURE_K), color=colour, lw=1.0)
            left.set(title=title, xlabel="iteration", ylabel="training loss U", xscale="log", yscale="log")
            right.set(title=title, xlabel="iteration", ylabel="entropy S (nats)", xscale="log")
            label_short_axis(right.xaxis)
            legend_beside(right, left)
        return figure


def gradients_along_runs(sweeps: Mapping[str, xr.Dataset], runs: int = 4) -> Figure:
    """Draw |G|, mean |g| and the SNR against the iteration, at the smallest learning rates.

    Parameters
    ----------
    sweeps : mapping of str to Dataset
        Measurements with the dimensions lr, iteration, k, by title; one row each.
    runs : int
        Number of learning rates, from the smallest.

    Returns
    -------
    Figure
        An estimate of |G|^2 that is negative has no root: these points are left out.
    """
    panels = {
        "full_grad_norm": "norm of the full gradient |G|",
        "mean_grad_norm": "mean norm of minibatch gradients",
        "snr": "signal-to-noise ratio",
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.5, 3.4 * len(sweeps)), layout="constrained")
        rows = figure.subplots(len(sweeps), 3, squeeze=False, sharex="row")
        for (title, sweep), row in zip(sweeps.items(), rows, strict=True):
            count = min(runs, sweep.sizes["lr"])
            for axes, (name, label) in zip(row, panels.items(), strict=True):
                for index, colour in zip(range(count), shades(count), strict=True):
                    one = sweep.isel(lr=index).isel(iteration=slice(1, None))
                    known = one[name] > 0.0
                    axes.plot(
                        one["iteration"][known],
                        one[name][known],
                        color=colour,
                        lw=1.0,
                        label=f"η = {float(one['lr']):.2g}",
                    )
                axes.set(title=title, xlabel="iteration", ylabel=label, xscale="log", yscale="log")
            legend_beside(row[2], row[0])
        return figure


def stochastic_against_full_gradient(sweeps: Mapping[str, xr.Dataset], runs: int = 3) -> Figure:
    """Draw mean |g| against |G| on the way to an optimum, with power laws: a phase plot.

    Parameters
    ----------
    sweeps : mapping of str to Dataset
        Measurements with the dimensions lr, iteration, k, by title: of several sizes of the training set,
        say.
    runs : int
        Number of learning rates, from the smallest.

    Returns
    -------
    Figure
        The law mean |g| = a |G|^p is fitted to the later half of the measurements, where gradients fall.
        Source: arXiv 2505.23489.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for (title, sweep), (colour, marker) in zip(sweeps.items(), distinct(), strict=False):
            full, stochastic = late_gradient_norms(sweep, runs)
            law = fit_power_law(full, stochastic)
            known = f"{title}: {law.prefactor:.2g} · |G|^{law.exponent:.2f}"
            axes.plot(full, stochastic, marker, color=colour, ms=3, alpha=0.5, label=known)
            if np.isfinite(law.exponent):
                ends = np.array([full.min(), full.max()])
                axes.plot(ends, law.prefactor * ends**law.exponent, color=colour, lw=1.2)
        axes.set(
            xlabel="norm of the full gradient |G|",
            ylabel="mean norm of minibatch gradients",
            xscale="log",
            yscale="log",
        )
        for axis in (axes.xaxis, axes.yaxis):
            label_short_axis(axis)
        axes.legend(fontsize=8)
        return figure
