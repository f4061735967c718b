"""How minibatch gradients and full gradients fall together on the way to an optimum."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.analysis.stationary import jackknife_error, with_seeds
from pythermo.estimators.temperature import PowerLaw, fit_power_law


@dataclass(frozen=True)
class GradientLaw:
    """Late gradient norms and the power law mean |g| = a |G|^p through them.

    Attributes
    ----------
    full, minibatch : array [n]
        |G| and mean |g| in loss units per weight unit.
    law : PowerLaw
        ``prefactor`` a and ``exponent`` p.
    """

    full: NDArray[np.float64]
    minibatch: NDArray[np.float64]
    law: PowerLaw


def gradient_law(sweep: xr.Dataset, runs: int = 3) -> GradientLaw:
    """Fit the law to the later half of the measurements at the smallest learning rates, of all seeds.

    There gradients fall as a network converges. Estimates of |G| that are not positive are left out.
    Source: arXiv 2505.23489.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration and perhaps seed.
    runs : int
        Number of learning rates, from the smallest.
    """
    late = sweep.isel(lr=slice(0, runs), iteration=slice(sweep.sizes["iteration"] // 2, None))
    full, minibatch = late["full_grad_norm"].values.ravel(), late["mean_grad_norm"].values.ravel()
    known = full > 0.0
    return GradientLaw(full[known], minibatch[known], fit_power_law(full[known], minibatch[known]))


def pooled_gradients(sweep: xr.Dataset) -> xr.Dataset:
    """Return |G|, mean |g| and the SNR along the runs, pooled over seeds.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration and perhaps seed.

    Returns
    -------
    xarray.Dataset
        ``full_grad_norm``, ``mean_grad_norm`` (loss units per weight unit) and ``snr`` [lr, iteration]. |G|
        is the root of the mean estimate of |G|^2, NaN where that is negative; and their standard errors over
        seeds ``*_error``, by a jackknife.
    """
    runs = with_seeds(sweep)
    pooled = {"full_grad_norm": _full, "mean_grad_norm": _minibatch, "snr": _snr}
    errors = {f"{name}_error": jackknife_error(value_of, runs) for name, value_of in pooled.items()}
    return xr.Dataset({name: value_of(runs) for name, value_of in pooled.items()} | errors)


def _full(runs: xr.Dataset) -> xr.DataArray:
    squared = runs["squared_full_grad_norm"].mean("seed")
    return squared.where(squared >= 0.0) ** 0.5


def _minibatch(runs: xr.Dataset) -> xr.DataArray:
    mean: xr.DataArray = runs["mean_grad_norm"].mean("seed")
    return mean


def _snr(runs: xr.Dataset) -> xr.DataArray:
    noise: xr.DataArray = (runs["rms_noise_norm"] ** 2).mean("seed")
    return _full(runs) / noise**0.5
