"""Single panels of a sweep, on axes of the user's or new ones: Dataset in, matplotlib Axes out."""

from collections.abc import Iterator
from contextlib import contextmanager

import xarray as xr
from matplotlib.axes import Axes

from pythermo._checks import require_integer, require_one_of
from pythermo.analysis.stationarity import stationarity
from pythermo.analysis.stationary import require_one_axis, require_sweep
from pythermo.analysis.temperatures import analyze, estimate_of_fit, stationary_of
from pythermo.analysis.thermometers import thermometers
from pythermo.config.preset import FitConfig
from pythermo.figures.runs import draw_along_runs
from pythermo.figures.stationarity import draw_drifts
from pythermo.figures.style import GREEN, LR_LABEL, own_style
from pythermo.figures.surface import draw_estimate, draw_surface
from pythermo.figures.sweeps import draw_free_energy, draw_snr, draw_stationary
from pythermo.figures.thermometers import draw_temperatures
from pythermo.training.quantities import QUANTITIES


def _require_axes(ax: object) -> None:
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax: must be matplotlib Axes, not {type(ax).__name__}")


@contextmanager
def _panel(ax: Axes | None) -> Iterator[Axes]:
    """Give the axes to draw on, in our style; pyplot's, which notebooks show, if there are none."""
    with own_style():
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(layout="constrained")
        yield ax


def plot_energy(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw the stationary U of a sweep with its errors against the learning rate.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed: see
        `pythermo.sweep`.
    ax : matplotlib.axes.Axes, optional
        Where it is drawn; new axes of pyplot if not given.
    last, fit
        As in `pythermo.analyze`: the measurements that count as stationary, the learning rates of the fit.

    Returns
    -------
    matplotlib.axes.Axes
        Points off the convex hull of U(S) are hollow.

    Raises
    ------
    TypeError, ValueError
        For an ``ax`` that is none, and as `pythermo.analyze`.

    Examples
    --------
    >>> sweep = pt.load_sweep("out/digits/up")  # doctest: +SKIP
    >>> figure, (left, right) = matplotlib.pyplot.subplots(1, 2)  # doctest: +SKIP
    >>> pt.plot_energy(sweep, ax=left), pt.plot_temperature(sweep, ax=right)  # doctest: +SKIP
    """
    _require_axes(ax)
    analysis = analyze(sweep, last, fit)
    with _panel(ax) as ax:
        draw_stationary(ax, analysis, "energy")
    return ax


def plot_entropy(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw the stationary S of a sweep with its errors against the learning rate.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised.
    """
    _require_axes(ax)
    analysis = analyze(sweep, last, fit)
    with _panel(ax) as ax:
        draw_stationary(ax, analysis, "entropy")
    return ax


def plot_snr(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw the stationary signal-to-noise ratio of the gradient against the learning rate.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised.
    """
    _require_axes(ax)
    analysis = analyze(sweep, last, fit)
    with _panel(ax) as ax:
        draw_snr(ax, analysis, GREEN, "o", "SNR")
    return ax


def plot_temperature(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw T = dU/dS of a sweep with its intervals over seeds, and its law.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised. Where there is no temperature, the axes
        say why.

    Notes
    -----
    Source: `pythermo.estimate_temperature`.
    """
    _require_axes(ax)
    last = stationary_of(sweep) if last is None else last
    estimate = estimate_of_fit(sweep, analyze(sweep, last, fit), last)
    with _panel(ax) as ax:
        draw_estimate(ax, estimate)
    return ax


def plot_surface(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw U against S of a sweep: members, means over seeds, and the convex curve whose slope is T.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised.
    """
    _require_axes(ax)
    last = stationary_of(sweep) if last is None else last
    analysis = analyze(sweep, last, fit)
    estimate = estimate_of_fit(sweep, analysis, last)
    with _panel(ax) as ax:
        draw_surface(ax, sweep, last, analysis, estimate)
    return ax


def plot_free_energy(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw F = U - T S against the learning rate at some of a sweep's temperatures.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised. Stars mark the learning rate that each
        temperature is of.

    Notes
    -----
    Source: arXiv 2505.23489, figure 2.
    """
    _require_axes(ax)
    analysis = analyze(sweep, last, fit)
    with _panel(ax) as ax:
        draw_free_energy(ax, analysis)
    return ax


def plot_thermometers(
    sweep: xr.Dataset, ax: Axes | None = None, last: int | None = None, fit: FitConfig | None = None
) -> Axes:
    """Draw the temperatures of a sweep by all thermometers, shaded where two of them agree.

    Parameters
    ----------
    sweep, ax, last, fit
        As in `plot_energy`, which says what is returned and raised. What is drawn: `pythermo.thermometers`.
    """
    _require_axes(ax)
    found = thermometers(sweep, last, fit)
    with _panel(ax) as ax:
        draw_temperatures(ax, found)
        ax.set(xscale="log", xlabel=LR_LABEL)
    return ax


def plot_drifts(sweep: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how far U and S of a sweep still drift, in units of the largest drift that does not matter.

    Parameters
    ----------
    sweep, ax
        As in `plot_energy`, which says what is returned; errors are those of `pythermo.stationarity`.
    """
    _require_axes(ax)
    found = stationarity(sweep)
    with _panel(ax) as ax:
        draw_drifts(ax, found)
    return ax


def plot_along_runs(sweep: xr.Dataset, name: str = "loss", ax: Axes | None = None, runs: int = 12) -> Axes:
    """Draw a measured quantity against the iteration, the mean over seeds in a band of its error.

    Parameters
    ----------
    sweep, ax
        As in `plot_energy`, which says what is returned.
    name : str
        Of the quantity, such as "loss", "entropy", "snr".
    runs : int
        How many learning rates, from the smallest to the largest.

    Raises
    ------
    TypeError, ValueError
        For what is no sweep, a ``name`` of nothing that it has, ``runs`` below 1.
    """
    _require_axes(ax)
    require_sweep(sweep)
    require_one_axis(sweep)
    require_one_of("name", name, [one for one in QUANTITIES if one in sweep])
    runs = require_integer("runs", runs, 1)
    with _panel(ax) as ax:
        draw_along_runs(ax, sweep, name, runs)
        ax.legend(fontsize=8)
    return ax
