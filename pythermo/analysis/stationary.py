"""Stationary values of a sweep: means over the last measurements of its runs, and over their seeds."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo._checks import require_integer
from pythermo.config.preset import FIGURE_K

_NEEDED = ("loss", "entropy", "squared_full_grad_norm", "rms_noise_norm")


def require_sweep(sweep: object) -> None:
    """Raise TypeError or ValueError unless ``sweep`` has what stationary values are made of."""
    if not isinstance(sweep, xr.Dataset):
        raise TypeError(f"sweep: must be an xarray.Dataset, as pythermo.sweep returns, not {sweep!r}")
    lacking = [name for name in _NEEDED if name not in sweep.data_vars]
    lacking += [
        name for name in ("lr", "iteration", "k") if name not in sweep.dims or name not in sweep.coords
    ]
    if lacking:
        raise ValueError(f"sweep: lacks {', '.join(lacking)}, which pythermo.sweep's Datasets have")


def second_axis(values: xr.Dataset) -> str:
    """Return what a sweep goes over beside learning rates and seeds; empty if nothing."""
    return next((axis for axis in ("weight_decay", "radius") if axis in values.dims), "")


def require_one_axis(sweep: xr.Dataset) -> None:
    """Raise ValueError for a sweep over two axes, which has no one curve U(S)."""
    axis = second_axis(sweep)
    if axis:
        raise ValueError(
            f"sweep: goes over {axis} beside the learning rate; pythermo.gas takes it, and this takes one of "
            f"its values: sweep.isel({axis}=0)"
        )


def require_neighbors(sweep: xr.Dataset, k: object) -> int:
    """Return ``k``; raise ValueError unless a sweep has entropies for so many neighbors."""
    k = require_integer("k", k, 1)
    if k not in sweep["k"]:
        raise ValueError(f"k: the sweep has no entropies for {k} neighbors, but for {sweep['k'].values}")
    return k


def stationary(sweep: xr.Dataset, last: int, k: int = FIGURE_K) -> xr.Dataset:
    """Return U, S and the SNR over the last measurements of each run, averaged over seeds.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed.
    last : int
        Number of measurements that count as stationary.
    k : int
        Number of neighbors of the entropy.

    Returns
    -------
    xarray.Dataset
        With the dimension lr: ``energy`` (loss units) and ``entropy`` (nats), the means over the seeds of
        the runs' means; ``*_std``, the standard deviation over the measurements of a run, averaged over
        seeds; ``*_error``, the standard error over seeds, NaN where there is one; and ``snr``, the root of
        mean |G|^2 over mean noise squared: single estimates of |G|^2 may be negative, and leaving these
        out would be a bias. NaN where even their mean is negative. ``snr_error`` is its standard error over
        seeds, by a jackknife.

    Raises
    ------
    ValueError
        For a ``k`` or a number of measurements that the sweep does not have.

    Notes
    -----
    Source: arXiv 2505.23489. Whether a run is stationary is not checked here.
    """
    tail = tail_of(sweep, last, k)
    of_runs, result = stationary_members(sweep, last, k), xr.Dataset()
    for name in ("energy", "entropy"):
        result[name] = of_runs[name].mean("seed", skipna=False)
        result[f"{name}_std"] = tail[name].std("iteration", skipna=False).mean("seed", skipna=False)
        result[f"{name}_error"] = standard_error(of_runs[name])
    result["snr"], result["snr_error"] = _snr(tail), jackknife_error(_snr, tail)
    return result


def stationary_members(sweep: xr.Dataset, last: int, k: int = FIGURE_K) -> xr.Dataset:
    """Return ``energy`` and ``entropy`` of each run [lr, seed], means over its last measurements."""
    means = tail_of(sweep, last, k)[["energy", "entropy"]].mean("iteration", skipna=False)
    return means.transpose("lr", "seed")


def tail_of(sweep: xr.Dataset, last: int, k: int) -> xr.Dataset:
    """Return the last measurements of runs with seeds: U as ``energy``, S of ``k`` neighbors."""
    require_sweep(sweep)
    k, last = require_neighbors(sweep, k), require_integer("last", last, 1)
    if last > sweep.sizes["iteration"]:
        raise ValueError(f"last: must lie between 1 and {sweep.sizes['iteration']}, not {last}")
    tail = with_seeds(sweep).isel(iteration=slice(-last, None)).sel(k=k, drop=True)
    return tail.rename(loss="energy")


def _snr(tail: xr.Dataset) -> xr.DataArray:
    signal = tail["squared_full_grad_norm"].mean(("iteration", "seed"))
    noise = (tail["rms_noise_norm"] ** 2).mean(("iteration", "seed"))
    return (signal.where(signal >= 0.0) / noise) ** 0.5


def with_seeds(sweep: xr.Dataset) -> xr.Dataset:
    """Return a sweep with the dimension seed, as one of a single seed may lack it."""
    return sweep if "seed" in sweep.dims else sweep.expand_dims("seed")


def standard_error(values: xr.DataArray) -> xr.DataArray:
    """Return the standard error over the dimension seed, NaN where there is one."""
    count = values.sizes["seed"]
    if count == 1:
        return xr.full_like(values.isel(seed=0, drop=True), np.nan)
    deviation: xr.DataArray = values.std("seed", ddof=1, skipna=False)
    return deviation / float(np.sqrt(count))


def jackknife_error(value_of: Callable[[xr.Dataset], xr.DataArray], sweep: xr.Dataset) -> xr.DataArray:
    """Return the standard error of what a function makes of all seeds; NaN where there is one."""
    count = sweep.sizes["seed"]
    if count == 1:
        return xr.full_like(value_of(sweep), np.nan)
    left_out = xr.concat([value_of(sweep.drop_isel(seed=index)) for index in range(count)], dim="left_out")
    variance: xr.DataArray = left_out.var("left_out", skipna=False) * (count - 1)
    return variance**0.5


def shown_error(values: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return what stands behind a stationary value's ±: its error over seeds, or else its std in time."""
    error = values[f"{name}_error"]
    return np.asarray(error if error.notnull().any() else values[f"{name}_std"])
