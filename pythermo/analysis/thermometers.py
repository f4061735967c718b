"""The temperatures of a sweep by several thermometers, which agree where there is one temperature."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo._checks import Floats, require_number, require_open_unit
from pythermo.analysis.members import Members
from pythermo.analysis.stationary import require_neighbors, require_sweep
from pythermo.analysis.temperatures import analyze, stationary_of
from pythermo.config.preset import FIGURE_K, FitConfig
from pythermo.config.schema import RunConfig
from pythermo.estimators.histogram_ratio import inverse_temperature_step
from pythermo.estimators.temperature_estimate import estimate_temperature

# Losses of a learning rate from which its histogram says something.
_LEAST_LOSSES = 200

# Those of its variables that are temperatures.
TEMPERATURES = ("entropy_slope", "noise", "configurational", "fluctuation", "equipartition")

_TEMPERATURE, _NATS, _LOSS = "loss units per nat", "nats", "loss units"


@dataclass(frozen=True)
class _Derived:
    """What follows from members: its value [lr], what it is called, and what must have been measured."""

    name: str
    long_name: str
    unit: str
    value: Callable[[Members], Floats]
    needs: tuple[str, ...] = ()


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
        ``quench_dimension``, 2/T times it, the effective dimension of a window of many independent points.
        ``noise_scale`` (samples), the batch at which signal and noise are alike. ``edge_ratio``, lr times
        half the largest curvature.

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
    Merz and Shirts 2018 (histograms), McCandlish et al. 2018 (noise scale).

    Examples
    --------
    >>> sweep = pt.load_sweep("out/digits/up")  # doctest: +SKIP
    >>> pt.thermometers(sweep)[["entropy_slope", "noise"]].to_dataframe()  # doctest: +SKIP
    """
    require_sweep(sweep)
    k, confidence = require_neighbors(sweep, k), require_open_unit("confidence", confidence)
    last = stationary_of(sweep) if last is None else last
    found = analyze(sweep, last, fit, k).fit
    members = Members.of(sweep, last, k)
    fitted = np.isin(members.lr, np.concatenate([found.lr, found.excluded]))
    wanted = (*_FROM_MEMBERS, *_of_floor(members, energy_floor), *_of_batch(sweep), *_of_path(fitted))
    result = xr.Dataset(coords={"lr": members.lr, "bound": ["low", "high"]})
    slope, slope_interval, unknown = _entropy_slope(members, fitted, confidence)
    _add(result, _SLOPE, slope, slope_interval)
    result["entropy_slope"].attrs["unknown"] = unknown
    for one in wanted:
        if all(name in members.means for name in one.needs):
            _add(result, one, one.value(members), members.interval(one.value, confidence))
    place = partial(_log_crossing, fitted=fitted)
    seeds: NDArray[np.bool_] = members.known[fitted].max(axis=0, initial=False, keepdims=True)
    result["crossing"] = (
        (),
        float(np.exp(place(members)[0])),
        {"long_name": "dU/dS rises above T of the noise"},
    )
    result["crossing_interval"] = "bound", np.exp(members.interval(place, confidence, seeds)[0])
    if "ensemble_entropy" in sweep:
        ensemble = _on_path(_ensemble_entropy(sweep), fitted)
        result["ensemble_entropy_change"] = (
            "lr",
            ensemble,
            {"long_name": "change of S of the seeds", "units": _NATS},
        )
    result.attrs |= {"confidence": confidence, "seeds": int(members.known.sum(axis=1).min())}
    return result


def agreement(found: xr.Dataset) -> NDArray[np.bool_]:
    """Return where the intervals of dU/dS and of the noise's temperature overlap [lr], of what was found."""
    ends = {name: found[f"{name}_interval"] for name in ("entropy_slope", "noise")}
    low = np.maximum(*(one.sel(bound="low").values for one in ends.values()))
    high = np.minimum(*(one.sel(bound="high").values for one in ends.values()))
    overlap: NDArray[np.bool_] = low <= high
    return overlap


def _add(result: xr.Dataset, one: _Derived, value: Floats, interval: Floats) -> None:
    result[one.name] = "lr", value, {"long_name": one.long_name, "units": one.unit}
    result[f"{one.name}_interval"] = ("lr", "bound"), interval, {"units": one.unit}


def _entropy_slope(
    members: Members, fitted: NDArray[np.bool_], confidence: float
) -> tuple[Floats, Floats, str]:
    """Return dU/dS with its interval at the fitted learning rates, and why there is none."""
    slope, interval = np.full(len(fitted), np.nan), np.full((len(fitted), 2), np.nan)
    energy, entropy = (members.means[name].values[fitted] for name in ("energy", "entropy"))
    try:
        found = estimate_temperature(members.lr[fitted], energy, entropy, confidence)
    except ValueError as error:
        return slope, interval, str(error)
    places = np.searchsorted(members.lr, found.lr)
    slope[places] = found.temperature
    if found.interval is not None:
        interval[places] = found.interval
    return slope, interval, ""


def _log_crossing(members: Members, fitted: NDArray[np.bool_]) -> Floats:
    """Return the logarithm of the first learning rate [1] from which on dU/dS is above T of the noise."""
    energy, entropy = (members.means[name].values[fitted] for name in ("energy", "entropy"))
    try:
        found = estimate_temperature(members.lr[fitted], energy, entropy, resamples=10)
    except ValueError:
        return np.array([np.nan])
    between = slice(1, -1)  # at the ends dU/dS is that of half a step away
    noise = _noise(members)[np.isin(members.lr, found.lr)]
    with np.errstate(divide="ignore"):
        above = np.log(found.temperature / noise)[between]
    lr = np.log(found.lr[between])
    for i in range(len(above) - 1):
        if above[i] <= 0.0 < above[i + 1] and np.isfinite(above[i]):
            return np.array([np.interp(0.0, above[i : i + 2], lr[i : i + 2])])
    return np.array([np.nan])


def _noise(members: Members) -> Floats:
    return members.lr * members["squared_noise"] / (2.0 * (members.dim - 1))


def _configurational(members: Members) -> Floats:
    return members["squared_loss_grad_norm"] / members["hessian_trace"]


def _heat_capacity(members: Members) -> Floats:
    temperature, energy = _noise(members), members["energy"]
    capacity, known = np.full(len(energy), np.nan), np.isfinite(energy)
    if known.sum() > 1:
        by_log = np.gradient(energy[known], np.log(members.lr[known]))
        capacity[known] = by_log / np.gradient(temperature[known], np.log(members.lr[known]))
    return capacity


def _inverse_temperature_step(members: Members) -> Floats:
    steps = np.full(len(members.lr), np.nan)
    for index, (colder, hotter) in enumerate(pairwise(map(members.losses_at, range(len(members.lr))))):
        if min(len(colder), len(hotter)) >= _LEAST_LOSSES:
            steps[index] = inverse_temperature_step(colder, hotter)
    return steps


_SLOPE = _Derived("entropy_slope", "T by dU/dS", _TEMPERATURE, _noise)

_FROM_MEMBERS = (
    _Derived("noise", "T of the noise", _TEMPERATURE, _noise),
    _Derived(
        "configurational", "configurational T", _TEMPERATURE, _configurational,
        ("squared_loss_grad_norm", "hessian_trace"),
    ),
    _Derived("heat_capacity", "heat capacity dU/dT", _NATS, _heat_capacity),
    _Derived(
        "fluctuation_capacity", "heat capacity Var(U)/T²", _NATS, lambda m: m.variance / _noise(m) ** 2
    ),
    _Derived("effective_dimension", "effective dimension 2 dU/dT", "1", lambda m: 2.0 * _heat_capacity(m)),
    _Derived(
        "quench_energy", "U less the loss at the window's mean", _LOSS, lambda m: m["quench_energy"],
        ("quench_energy",),
    ),
    _Derived(
        "quench_dimension", "effective dimension by the quench", "1",
        lambda m: 2.0 * m["quench_energy"] / _noise(m), ("quench_energy",),
    ),
    _Derived(
        "edge_ratio", "learning rate times half the largest curvature", "1",
        lambda m: m.lr * m["largest_curvature"] / 2.0, ("largest_curvature",),
    ),
    _Derived(
        "inverse_temperature_step", "1/T less that of the next learning rate", "nats per loss unit",
        _inverse_temperature_step,
    ),
)  # fmt: skip


def _of_floor(members: Members, floor: float | None) -> list[_Derived]:
    """Return the thermometers of a harmonic minimum of a depth."""
    if floor is None:
        return []
    depth, least = require_number("energy_floor", floor), np.nanmin(members.losses, initial=np.inf)
    if not depth < least:
        raise ValueError(f"energy_floor: must be below all stationary losses, {least:g}, not {depth:g}")
    return [
        _Derived(
            "fluctuation", "T by fluctuations of U", _TEMPERATURE,
            lambda m: m.variance / (m["energy"] - depth),
        ),
        _Derived(
            "equipartition", "T by equipartition", _TEMPERATURE,
            lambda m: 2.0 * (m["energy"] - depth) / (m.dim - 1),
        ),
    ]  # fmt: skip


def _of_batch(sweep: xr.Dataset) -> list[_Derived]:
    """Return what needs the size of the batches, which a sweep's configuration has."""
    if "config" not in sweep.attrs:
        return []
    size = RunConfig.from_toml(sweep.attrs["config"]).training.batch_size

    def noise_scale(members: Members) -> Floats:
        signal = members["squared_full_grad_norm"]
        scale: Floats = size * members["squared_noise"] / np.where(signal > 0.0, signal, np.nan)
        return scale

    return [_Derived("noise_scale", "gradient noise scale", "samples", noise_scale)]


def _of_path(fitted: NDArray[np.bool_]) -> list[_Derived]:
    """Return the change of S from the first learning rate of the fit on, as measured and by the noise."""

    def measured(members: Members) -> Floats:
        return _on_path(members["entropy"], fitted)

    def by_noise(members: Members) -> Floats:
        changes, known = np.full(len(fitted), np.nan), fitted & np.isfinite(members["energy"])
        changes[known] = _integral_of_inverse(_noise(members)[known], members["energy"][known])
        return changes

    return [
        _Derived("entropy_change", "change of S", _NATS, measured),
        _Derived("noise_entropy_change", "integral of dU/T of the noise", _NATS, by_noise),
    ]


def _integral_of_inverse(temperature: Floats, energy: Floats) -> Floats:
    """Return the integral of dU/T from the first point to each; exact where T is linear in U between them."""
    by_log, by_difference = np.diff(np.log(temperature)), np.diff(temperature)
    straight = np.abs(by_log) > 1e-6
    inverse = 1.0 / temperature[:-1]
    inverse[straight] = by_log[straight] / by_difference[straight]
    return np.concatenate([[0.0], np.cumsum(np.diff(energy) * inverse)])


def _on_path(entropy: Floats, fitted: NDArray[np.bool_]) -> Floats:
    """Return the change of an entropy [lr] from the first fitted learning rate on, NaN at the others."""
    known = fitted & np.isfinite(entropy)
    return np.where(known, entropy - entropy[known][:1].sum(), np.nan)


def _ensemble_entropy(sweep: xr.Dataset) -> Floats:
    of_last: Floats = sweep.sortby("lr")["ensemble_entropy"].isel(snapshot=-1, ensemble_k=-1).values
    return of_last
