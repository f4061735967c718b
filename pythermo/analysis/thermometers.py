"""The temperatures of a sweep by several thermometers, which agree where there is one temperature."""

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo._checks import Floats, require_open_unit
from pythermo.analysis.derived import (
    FROM_MEMBERS,
    NATS,
    TEMPERATURE,
    of_batch,
    of_floor,
    of_path,
    on_path,
)
from pythermo.analysis.members import Members
from pythermo.analysis.stationary import require_neighbors, require_one_axis, require_sweep
from pythermo.analysis.temperatures import analyze, estimate_of_fit, stationary_of
from pythermo.config.preset import FIGURE_K, FitConfig
from pythermo.estimators.temperature import TemperatureFit
from pythermo.estimators.temperature_estimate import TemperatureEstimate, estimate_temperature

# Those of its variables that are temperatures.
TEMPERATURES = ("entropy_slope", "noise", "configurational", "fluctuation", "equipartition")


def thermometers(
    sweep: xr.Dataset,
    last: int | None = None,
    fit: FitConfig | None = None,
    k: int = FIGURE_K,
    energy_floor: float | None = None,
    confidence: float = 0.9,
) -> xr.Dataset:
    """Measure the temperature of each learning rate of a sweep in several ways, each with its interval.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed: see
        `pythermo.sweep`.
    last, fit, k
        As in `pythermo.analyze`: the measurements that count as stationary, the learning rates through which
        U(S) is drawn, the neighbors of the entropy.
    energy_floor : float, optional
        The least loss U0, for the thermometers that assume a harmonic minimum of that depth.
    confidence : float
        Of the intervals, between 0 and 1.

    Returns
    -------
    xarray.Dataset
        With the dimension lr and, for each variable, its ``*_interval`` [lr, bound] over seeds, NaN where
        fewer than two are known. What was not measured, or needs a floor, is left out.

        Temperatures (loss units per nat): ``entropy_slope``, dU/dS by `pythermo.estimate_temperature`;
        ``noise``, that of isotropic noise as strong as the gradients'; ``configurational``, the mean of
        |∇U|^2 over that of the Hessian's trace; ``fluctuation``, Var(U) / (U - U0); ``equipartition``,
        2 (U - U0) / (D - 1).

        ``inverse_temperature_step`` (nats per loss unit): 1/T less that of the next learning rate, by the
        ratio of their histograms of U, where these overlap and hold 200 losses. ``entropy_change`` (nats): S
        less that of the first learning rate of the fit, and ``noise_entropy_change``, the integral of dU/T
        between them with T of the noise: equal where that is the temperature. ``ensemble_entropy_change``,
        that of the entropy of the seeds, at the last iteration whose weights were kept, with all neighbors.

        ``heat_capacity`` (nats), dU/dT along the sweep with T of the noise, and ``fluctuation_capacity``,
        Var(U) / T^2; ``effective_dimension``, twice the first, D - 1 in a harmonic minimum.
        ``quench_energy`` (loss units), U less the loss at the mean of the window's weights, and
        ``quench_dimension``, 2/T times it, for as many independent points as the window is worth.
        ``noise_scale`` (samples), the batch at which signal and noise are alike. ``edge_ratio``, lr times
        half the largest curvature; ``batch_edge_ratio``, lr times half the curvature of minibatches' losses
        along their gradients: at 1 the loss of a step's own minibatch stays the same.

        Without that dimension ``crossing``, the learning rate from which on dU/dS is above T of the noise;
        NaN where they do not cross.

    Raises
    ------
    TypeError, ValueError
        As `pythermo.analyze`, and for an ``energy_floor`` that is not below all stationary losses.

    Notes
    -----
    All assume a stationary state (see `pythermo.stationarity`). The slope assumes that SGD minimizes U - T S;
    the others that learning rates are small, and the noise alike in all directions and at all places. Where
    the edge ratio nears 1, or the noise is not isotropic, they differ, and the state has no one temperature:
    docs/temperature.md. Intervals are Student's t with the jackknife's error over seeds; that of the slope is
    its own. Sources: arXiv 2505.23489 (slope) and 2511.07308 (noise), Butler et al. 1998 (configurational),
    Merz and Shirts 2018 (histograms), McCandlish et al. 2018 (noise scale),
    Andreyev and Beneventano 2024 (batch sharpness).

    Examples
    --------
    >>> sweep = pt.load_sweep("out/digits/up")  # doctest: +SKIP
    >>> pt.thermometers(sweep)[["entropy_slope", "noise"]].to_dataframe()  # doctest: +SKIP
    """
    require_sweep(sweep)
    require_one_axis(sweep)
    k, confidence = require_neighbors(sweep, k), require_open_unit("confidence", confidence)
    last = stationary_of(sweep) if last is None else last
    analysis = analyze(sweep, last, fit, k)
    estimate = estimate_of_fit(sweep, analysis, last, k, confidence)
    return read_thermometers(sweep, last, analysis.fit, estimate, k, energy_floor, confidence)


def read_thermometers(
    sweep: xr.Dataset,
    last: int,
    fit: TemperatureFit,
    estimate: TemperatureEstimate | str,
    k: int = FIGURE_K,
    energy_floor: float | None = None,
    confidence: float = 0.9,
) -> xr.Dataset:
    """Do what `thermometers` does where the learning rates of the fit and dU/dS are known."""
    members = Members.of(sweep, last, k)
    fitted = np.isin(members.lr, np.concatenate([fit.lr, fit.excluded]))
    wanted = (*FROM_MEMBERS, *of_floor(members, energy_floor), *of_batch(sweep), *of_path(fitted))
    result = xr.Dataset(coords={"lr": members.lr, "bound": ["low", "high"]})
    _add(result, "entropy_slope", "T by dU/dS", TEMPERATURE, *_entropy_slope(members.lr, estimate))
    result["entropy_slope"].attrs["unknown"] = estimate if isinstance(estimate, str) else ""
    for one in wanted:
        if all(name in members.means for name in one.needs):
            interval = members.interval(one.value, confidence)
            _add(result, one.name, one.long_name, one.unit, one.value(members), interval)
    place = partial(_log_crossing, fitted=fitted)
    seeds: NDArray[np.bool_] = members.known[fitted].max(axis=0, initial=False, keepdims=True)
    result["crossing"] = (
        (),
        float(np.exp(place(members)[0])),
        {"long_name": "dU/dS rises above T of the noise"},
    )
    result["crossing_interval"] = "bound", np.exp(members.interval(place, confidence, seeds)[0])
    if "ensemble_entropy" in sweep:
        ensemble = on_path(_ensemble_entropy(sweep), fitted)
        result["ensemble_entropy_change"] = (
            "lr",
            ensemble,
            {"long_name": "change of S of the seeds", "units": NATS},
        )
    result.attrs |= {"confidence": confidence, "seeds": int(members.known.sum(axis=1).min())}
    return result


def agreement(found: xr.Dataset) -> NDArray[np.bool_]:
    """Return where the intervals of dU/dS, if it is positive, and of the noise's T overlap [lr]."""
    ends = {name: found[f"{name}_interval"] for name in ("entropy_slope", "noise")}
    low = np.maximum(*(one.sel(bound="low").values for one in ends.values()))
    high = np.minimum(*(one.sel(bound="high").values for one in ends.values()))
    overlap: NDArray[np.bool_] = (low <= high) & (found["entropy_slope"].values > 0.0)
    return overlap


def _add(result: xr.Dataset, name: str, long_name: str, unit: str, value: Floats, interval: Floats) -> None:
    result[name] = "lr", value, {"long_name": long_name, "units": unit}
    result[f"{name}_interval"] = ("lr", "bound"), interval, {"units": unit}


def _entropy_slope(lr: Floats, estimate: TemperatureEstimate | str) -> tuple[Floats, Floats]:
    """Return dU/dS [lr] with its interval; NaN where it was not estimated."""
    slope, interval = np.full(len(lr), np.nan), np.full((len(lr), 2), np.nan)
    if not isinstance(estimate, str):
        places = np.searchsorted(lr, estimate.lr)
        slope[places] = estimate.temperature
        if estimate.interval is not None:
            interval[places] = estimate.interval
    return slope, interval


def _log_crossing(members: Members, fitted: NDArray[np.bool_]) -> Floats:
    """Return the logarithm of the first learning rate [1] from which on dU/dS is above T of the noise."""
    energy, entropy = (members.means[name].values[fitted] for name in ("energy", "entropy"))
    try:
        found = estimate_temperature(members.lr[fitted], energy, entropy, resamples=10)
    except ValueError:
        return np.array([np.nan])
    between = slice(1, -1)  # at the ends dU/dS is that of half a step away
    noise = members.noise_temperature[np.isin(members.lr, found.lr)]
    with np.errstate(divide="ignore"):
        above = np.log(found.temperature / noise)[between]
    lr = np.log(found.lr[between])
    for i in range(len(above) - 1):
        if above[i] <= 0.0 < above[i + 1] and np.isfinite(above[i]):
            return np.array([np.interp(0.0, above[i : i + 2], lr[i : i + 2])])
    return np.array([np.nan])


def _ensemble_entropy(sweep: xr.Dataset) -> Floats:
    of_last: Floats = sweep.sortby("lr")["ensemble_entropy"].isel(snapshot=-1, ensemble_k=-1).values
    return of_last
