"""Which learning rates of a sweep are stationary: by the size of what drifts, not by whether it is seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray
from scipy.stats import t as student

from pythermo._checks import Floats, require_open_unit
from pythermo.analysis.stationary import (
    require_neighbors,
    require_sweep,
    second_axis,
    standard_error,
    with_seeds,
)
from pythermo.config.preset import FIGURE_K
from pythermo.config.schema import RunConfig

# The largest drift that does not matter, as a share of the step to the neighboring learning rate.
_TOLERATED_SHARE = 0.1
_BATCHES = 5


@dataclass(frozen=True)
class _Drift:
    """The change of a mean [lr] between the last two quarters of the runs, and its standard error."""

    value: Floats
    error: Floats
    degrees: int

    def half_width(self, confidence: float) -> Floats:
        """Return half of the interval of Student's t [lr]."""
        half: Floats = student.ppf(0.5 + confidence / 2, self.degrees) * self.error
        return half

    def p_value(self) -> Floats:
        """Return how often a quantity that does not drift is seen to drift as much [lr]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            p_value: Floats = 2 * student.sf(np.abs(self.value) / self.error, self.degrees)
        return p_value


def stationarity(sweep: xr.Dataset, k: int = FIGURE_K, confidence: float = 0.9) -> xr.Dataset:
    """Say which learning rates of a sweep are stationary, and how many iterations the others lack.

    A drift is the mean of U, or S, over the last quarter of a run minus that over the quarter before. A
    learning rate is stationary where the intervals of both drifts lie within a tenth of the steps of U and
    of S to the neighboring learning rates: the drift is then too small to matter for a temperature. In full
    space the same holds for log r, the logarithm of the weights' norm, which is slow to settle.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed, weight_decay or
        radius: see `pythermo.sweep`. ``measurement.late`` of 50 gives 25 measurements a quarter.
    k : int
        Number of neighbors of the entropy.
    confidence : float
        Of the intervals, between 0 and 1.

    Returns
    -------
    xarray.Dataset
        With the dimension lr, and weight_decay or radius, each of whose values is a sweep of its own. Of U
        (loss units) as ``energy``, of S (nats) as ``entropy``, and of log r as ``log_radius`` in full space:
        ``energy_drift``; ``energy_interval`` [lr, bound] around it; ``energy_p_value`` of no drift at all;
        ``energy_tolerance``, the largest drift that does not matter. ``stationary``; ``iterations_lacking``,
        by how many iterations longer runs would be it: 0 where they are, infinite where none would be. With a
        member whose U or S is not known, a learning rate is not stationary and has NaN in the other places.
        ``rhat`` and ``effective_samples`` of U in the last two quarters; they are shown and decide nothing.
        The attribute ``errors`` is "seeds", or "batch means" of one seed.

    Raises
    ------
    TypeError, ValueError
        For what is no sweep, a ``k`` that it does not have, fewer than two learning rates, too few
        measurements in a quarter (2 of several seeds, 10 of one), or windows of the entropy that are longer.

    Notes
    -----
    The error of a drift is that over seeds, which holds all correlation in time. One seed has batch means
    instead, 5 in a quarter: weaker, for they are taken as independent. The step to the neighbors is half
    of the distance between those on both sides. ``iterations_lacking`` assumes that what drifts goes to its
    limit as 1/t, so that a drift between quarters falls as one over a run's length, and its error as one over
    the root of that. Means are used as they are: a window spans a quarter at most, so that S of
    the last quarter has nothing of the second. R-hat: Vehtari et al. 2021.

    Examples
    --------
    >>> found = pt.stationarity(pt.load_sweep("out/digits/up"))  # doctest: +SKIP
    >>> found["lr"][found["stationary"]]  # doctest: +SKIP
    """
    require_sweep(sweep)
    k, confidence = require_neighbors(sweep, k), require_open_unit("confidence", confidence)
    if sweep.sizes["lr"] < 2:
        raise ValueError("sweep: must have 2 learning rates at least; a drift is compared with their step")
    second = second_axis(sweep)
    if second:
        each = [
            stationarity(sweep.isel({second: [i]}).squeeze(second), k, confidence)
            for i in range(sweep.sizes[second])
        ]
        return xr.concat(each, dim=sweep[second], combine_attrs="override")
    members = with_seeds(sweep).sortby("lr")
    before, last = _quarters(members["iteration"].values, members.sizes["seed"])
    _require_short_windows(sweep)
    result = xr.Dataset(coords={"lr": members["lr"], "bound": ["low", "high"]})
    within = np.ones(members.sizes["lr"], dtype=bool)
    longer = np.ones(members.sizes["lr"])
    for name, of in _watched(members, k).items():
        of = of.transpose("lr", "seed", "iteration").astype(np.float64)
        drift = _drift(of.isel(iteration=before), of.isel(iteration=last))
        half = drift.half_width(confidence)
        tolerance = _TOLERATED_SHARE * _step_to_neighbors(of.values[..., last].mean(axis=(1, 2)))
        result[f"{name}_drift"] = "lr", drift.value
        result[f"{name}_interval"] = ("lr", "bound"), np.stack([drift.value - half, drift.value + half], 1)
        result[f"{name}_p_value"] = "lr", drift.p_value()
        result[f"{name}_tolerance"] = "lr", tolerance
        within &= np.abs(drift.value) + half <= tolerance
        longer = np.maximum(longer, _times_longer(np.abs(drift.value), half, tolerance))
    result["stationary"] = "lr", within
    lacking = np.where(within, 0.0, np.ceil((longer - 1) * float(members["iteration"][-1])))
    result["iterations_lacking"] = "lr", lacking
    late = members["loss"].transpose("lr", "seed", "iteration").values[..., before | last]
    result["rhat"] = "lr", np.array([_or_nan(array_stats.rhat, one) for one in late])
    result["effective_samples"] = "lr", np.array([_or_nan(array_stats.ess, one) for one in late])
    result.attrs["errors"] = "seeds" if members.sizes["seed"] > 1 else "batch means"
    return result


def _watched(members: xr.Dataset, k: int) -> dict[str, xr.DataArray]:
    """Return what must not drift, by its name in the result."""
    watched = {"energy": members["loss"], "entropy": members["entropy"].sel(k=k, drop=True)}
    if "config" in members.attrs and "mean_r2" in members.data_vars:  # of all steps, not of some iterates
        training = RunConfig.from_toml(members.attrs["config"]).training
        if training.protocol != "sphere":
            logarithm: Any = np.log(members["mean_r2"])
            watched["log_radius"] = logarithm / 2.0
    return watched


def _quarters(iteration: NDArray[np.int64], seeds: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which measurements lie in the third and in the last quarter of the runs."""
    end, least = iteration[-1], 2 if seeds > 1 else 2 * _BATCHES
    before = (iteration > end / 2) & (iteration <= 0.75 * end)
    last = iteration > 0.75 * end
    for words, chosen in (("quarter before the last", before), ("last quarter", last)):
        if chosen.sum() < least:
            raise ValueError(
                f"sweep: has {chosen.sum()} measurements in the {words} of its runs, and {least} at least "
                "are needed; measurement.late = 50 gives 25"
            )
    return before, last


def _require_short_windows(sweep: xr.Dataset) -> None:
    """Raise where S of the last quarter would have something of the second in it."""
    if "config" not in sweep.attrs:
        return
    measurement = RunConfig.from_toml(sweep.attrs["config"]).measurement
    span, quarter = measurement.window * measurement.stride, int(sweep["iteration"][-1]) // 4
    if span > quarter:
        raise ValueError(
            f"sweep: its windows span {span} iterations and a quarter of its runs has {quarter}; "
            "measurement.window times measurement.stride must not be more"
        )


def _drift(before: xr.DataArray, last: xr.DataArray) -> _Drift:
    """Return the drift between two quarters [lr, seed, iteration], with its error over seeds or batches."""
    each = last.mean("iteration", skipna=False) - before.mean("iteration", skipna=False)
    value, seeds = each.mean("seed", skipna=False).values, each.sizes["seed"]
    if seeds > 1:
        return _Drift(value, standard_error(each).values, seeds - 1)
    variance = _variance_of_mean(before.values[:, 0]) + _variance_of_mean(last.values[:, 0])
    return _Drift(value, np.sqrt(variance), 2 * (_BATCHES - 1))


def _variance_of_mean(series: Floats) -> Floats:
    """Return the variance of the mean of each series [lr, iteration], by the means of its batches."""
    means = [one.mean(axis=1) for one in np.array_split(series, _BATCHES, axis=1)]
    variance: Floats = np.var(means, axis=0, ddof=1) / _BATCHES
    return variance


def _step_to_neighbors(values: Floats) -> Floats:
    """Return half of the distance between the known neighbors of each [lr], at an end to the only one."""
    step, known = np.full(len(values), np.nan), np.isfinite(values)
    if known.sum() > 1:
        step[known] = np.abs(np.gradient(values[known]))
    return step


def _times_longer(drift: Floats, half: Floats, tolerance: Floats) -> Floats:
    """Return the f >= 1 with drift / f + half / sqrt(f) = tolerance, infinite for no tolerance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of x = 1 / sqrt(f): drift x^2 + half x = tolerance, in the form without a difference.
        x = 2 * tolerance / (half + np.sqrt(half**2 + 4 * drift * tolerance))
        longer: Floats = 1.0 / np.minimum(x, 1.0) ** 2
    return longer


def _or_nan(statistic: Callable[..., float], series: Floats) -> float:
    """Return a statistic of series [seed, draw]; NaN where one is not finite or none moves."""
    if not np.isfinite(series).all() or np.ptp(series) == 0.0:
        return float("nan")
    return float(statistic(series, chain_axis=0, draw_axis=1))
