"""The temperatures of a sweep, in a range of its learning rates."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.analysis.regimes import Regime, longest_stretch, of_most_seeds, regimes
from pythermo.analysis.stationarity import stationarity
from pythermo.analysis.stationary import require_one_axis, require_sweep, stationary, stationary_members
from pythermo.config.preset import FIGURE_K, FitConfig
from pythermo.config.schema import RunConfig
from pythermo.estimators.temperature import TemperatureFit, fit_temperature
from pythermo.estimators.temperature_estimate import TemperatureEstimate, estimate_temperature

NO_EQUILIBRIUM = "no two neighboring learning rates are in equilibrium"


@dataclass(frozen=True)
class _Range:
    """The learning rates of a fit by their places, where they come from, and whether they have a law."""

    places: NDArray[np.intp]
    origin: str
    has_law: bool = True


@dataclass(frozen=True)
class Analysis:
    """A sweep's stationary values and its temperatures.

    Attributes
    ----------
    stationary : xarray.Dataset
        Of all learning rates: see `stationary`; and their ``regime``, that of most of their seeds (see
        `Regime`), with the largest ``regime_share`` of seeds in one.
    fit : TemperatureFit
        Of the learning rates of the fit's range.
    range_of_fit : str
        Where that range comes from.
    has_law : bool
        Whether T has a law in the learning rate: not where the range is that of all of them, for no two
        neighboring ones are in equilibrium. The law of ``fit`` is NaN then.
    stationarity : xarray.Dataset or str
        Which learning rates are stationary (see `pythermo.stationarity`), or why it cannot be said.
    full_gradient : str
        What the SNR took for the full gradient: "mean" of minibatch gradients or "evaluation" batches.
    """

    stationary: xr.Dataset
    fit: TemperatureFit
    range_of_fit: str
    has_law: bool
    stationarity: xr.Dataset | str
    full_gradient: str


def analyze(
    sweep: xr.Dataset, last: int | None = None, fit: FitConfig | None = None, k: int = FIGURE_K
) -> Analysis:
    """Find the temperatures of a sweep in a range of its learning rates.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed: see
        `pythermo.sweep`.
    last : int, optional
        Number of measurements that count as stationary; ``measurement.stationary`` of the sweep's
        configuration if not given.
    fit : FitConfig, optional
        First and last index of the range, and the tolerance in the energy (loss units). The longest stretch
        of equilibrium, and no tolerance, if not given. Learning rates that drift are left out of either, but
        with ``drifting``.
    k : int
        Number of neighbors of the entropy.

    Returns
    -------
    Analysis
        Its fit is that of the means over seeds.

    Raises
    ------
    ValueError
        For a range that holds fewer than two learning rates of the sweep, and for ``last`` or ``k`` that the
        sweep does not have.

    Examples
    --------
    >>> sweep = pt.load_sweep("out/digits/up")  # doctest: +SKIP
    >>> pt.analyze(sweep).fit.temperature  # doctest: +SKIP
    """
    require_sweep(sweep)
    require_one_axis(sweep)
    if last is None:
        last = stationary_of(sweep)
    if fit is not None and not isinstance(fit, FitConfig):
        raise TypeError(f"fit: must be a FitConfig, not {fit!r}")
    settings = fit or FitConfig()
    values = stationary(sweep, last, k)
    members = regimes(sweep, last, k)
    values["regime"], values["regime_share"] = of_most_seeds(members)
    judged = _judged(sweep, k)
    chosen = _range_of_fit(values["regime"].values, settings, _drifting(values["lr"].values, judged))
    ranged = values.isel(lr=chosen.places)
    found = fit_temperature(
        ranged["lr"].values, ranged["energy"].values, ranged["entropy"].values, settings.tolerance
    )
    if not chosen.has_law:
        found = replace(
            found, prefactor=np.nan, exponent=np.nan, prefactor_stderr=np.nan, exponent_stderr=np.nan
        )
    if not isinstance(judged, str):
        drifts = (values["regime"] == Regime.EQUILIBRIUM) & ~judged["stationary"]
        values["regime"] = values["regime"].where(~drifts, Regime.DRIFT.value)
    off_hull = np.isin(values["lr"], found.lr[~found.feasible]) & (values["regime"] == Regime.EQUILIBRIUM)
    values["regime"] = values["regime"].where(~off_hull, Regime.JUMP.value)
    full_gradient = str(sweep.attrs["full_gradient"])
    return Analysis(values, found, chosen.origin, chosen.has_law, judged, full_gradient)


def estimate_of_fit(
    sweep: xr.Dataset, analysis: Analysis, last: int, k: int = FIGURE_K, confidence: float = 0.9
) -> TemperatureEstimate | str:
    """Return the temperatures by convex regression at the learning rates of a fit; or why there are none.

    Their law is NaN where the analysis has none.
    """
    chosen = np.concatenate([analysis.fit.lr, analysis.fit.excluded])
    members = stationary_members(sweep.sel(lr=chosen), last, k)
    try:
        found = estimate_temperature(chosen, members["energy"].values, members["entropy"].values, confidence)
    except ValueError as error:
        return str(error)
    if analysis.has_law:
        return found
    return replace(
        found, reference_temperature=np.nan, exponent=np.nan, reference_interval=None, exponent_interval=None
    )


def _judged(sweep: xr.Dataset, k: int) -> xr.Dataset | str:
    try:
        return stationarity(sweep, k)
    except ValueError as error:
        return str(error)


def _drifting(lr: NDArray[np.float64], judged: xr.Dataset | str) -> NDArray[np.bool_]:
    """Return which learning rates [lr] are not stationary; none where that cannot be said."""
    if isinstance(judged, str):
        return np.zeros(len(lr), dtype=bool)
    return ~np.asarray(judged["stationary"].sel(lr=lr).values)


def stationary_of(sweep: xr.Dataset) -> int:
    """Return how many measurements count as stationary by a sweep's configuration."""
    if "config" not in sweep.attrs:
        raise ValueError(
            "last: must be given, for the sweep lacks the attribute config, which would say how many "
            "measurements are stationary"
        )
    return RunConfig.from_toml(sweep.attrs["config"]).measurement.stationary


def _range_of_fit(regime: NDArray[np.str_], settings: FitConfig, drifting: NDArray[np.bool_]) -> _Range:
    before = _range_before_drifts(regime, settings)
    places, origin = before.places, before.origin
    kept = places[~drifting[places]]
    lost = len(places) - len(kept)
    if lost == 0:
        return before
    if settings.drifting:
        return replace(before, origin=f"{origin}, {lost} of which {'drifts' if lost == 1 else 'drift'}")
    if len(kept) < 2:
        return replace(before, origin=f"{origin}, although {lost} of {len(places)} drift")
    return replace(
        before, places=kept, origin=f"{origin}, but for {lost} that {'drifts' if lost == 1 else 'drift'}"
    )


def _range_before_drifts(regime: NDArray[np.str_], settings: FitConfig) -> _Range:
    places = np.arange(len(regime))
    if settings.first is not None or settings.last is not None:
        first, last = settings.first or 0, -1 if settings.last is None else settings.last
        given = places[first : last + 1 or None]
        if len(given) < 2:
            raise ValueError(
                f"fit: the range {first} ... {last} holds {len(given)} of the "
                f"sweep's {len(places)} learning rates; at least 2 are needed"
            )
        return _Range(given, "as given")
    chosen = places[longest_stretch(regime == Regime.EQUILIBRIUM)]
    if len(chosen) < 2:
        return _Range(places, f"all, for {NO_EQUILIBRIUM}", has_law=False)
    return _Range(chosen, "those in equilibrium")
