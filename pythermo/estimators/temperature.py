"""Temperature and free energy from stationary energies and entropies: arrays in, arrays out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pythermo._checks import Floats, as_floats, require_integer, require_not_negative

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PowerLaw:
    """A fit ``y = prefactor * x ** exponent``.

    Attributes
    ----------
    prefactor, exponent : float
        NaN where there are too few points.
    prefactor_stderr, exponent_stderr : float
        Their standard errors by the scatter of the points around the line; NaN for fewer than three points.
    """

    prefactor: float
    exponent: float
    prefactor_stderr: float
    exponent_stderr: float


@dataclass(frozen=True)
class TemperatureFit:
    """Temperatures for which each learning rate minimizes the free energy.

    Attributes
    ----------
    lr, energy, entropy : array [n]
        The points that were used, ascending in ``lr``; energy (loss units) and entropy (nats) as
        smoothed.
    temperature : array [n]
        ``sqrt(lower * upper)`` in loss units per nat; NaN where ``upper`` is negative and where all
        entropies are equal.
    lower, upper : array [n]
        The confidence interval: every temperature inside makes this point the minimizer.
    feasible : array [n] of bool
        False where no temperature does: the point lies above the lower convex hull of (S, U) by more
        than the tolerance.
    prefactor, exponent, prefactor_stderr, exponent_stderr : float
        The power law ``T = prefactor * lr ** exponent`` and its standard errors; NaN where too few
        points are there for it (two for the law, three for the errors).
    fitted : array [n] of bool
        The points of the power law: all but the first and the last, where T is positive.
    excluded : array
        The learning rates that were left out because U or S is NaN.
    """

    lr: Floats
    energy: Floats
    entropy: Floats
    temperature: Floats
    lower: Floats
    upper: Floats
    feasible: Bools
    prefactor: float
    exponent: float
    prefactor_stderr: float
    exponent_stderr: float
    fitted: Bools
    excluded: Floats


def fit_temperature(
    lr: ArrayLike,
    energy: ArrayLike,
    entropy: ArrayLike,
    tolerance: float = 0.0,
    smoothing: float = 0.3,
) -> TemperatureFit:
    """Find for each learning rate the temperatures at which it minimizes ``U - T S``.

    Point i is the minimizer, within ``tolerance`` of the energy, if and only if T lies between
    ``lower = max over S_j < S_i of (U_i - U_j - tolerance) / (S_i - S_j)``, at least 0, and
    ``upper = min over S_j > S_i of (U_j - U_i + tolerance) / (S_j - S_i)``.
    A point with no other on one side takes its one bound for both.

    Parameters
    ----------
    lr : array [n]
        Learning rates, positive and different from each other, in any order.
    energy : array [n]
        Stationary losses U. Points with NaN here or in ``entropy`` are left out and reported.
    entropy : array [n]
        Stationary entropies S in nats.
    tolerance : float
        Allowance in the energy, in loss units, not negative.
    smoothing : float
        Half width of the triangular kernel over log(lr), natural logarithm, by which U and S are
        smoothed first; the first and the last point stay as they are. 0 smooths nothing.

    Returns
    -------
    TemperatureFit

    Raises
    ------
    ValueError
        For arrays that are not one-dimensional and of one length, infinite values, learning rates that
        are not positive or repeat, fewer than two points without NaN, a negative tolerance or smoothing.

    Notes
    -----
    Assumes that the points are stationary and that S is known up to a constant common to all of them.
    Source: arXiv 2505.23489.

    Examples
    --------
    U = lr and S = 100 log(lr), so that T = dU/dS = lr / 100:

    >>> lr = np.geomspace(1e-3, 1e-1, 9)
    >>> fit = pt.fit_temperature(lr, lr, 100 * np.log(lr), smoothing=0.0)
    >>> f"{fit.temperature[4]:.1e}, {fit.exponent:.2f}"
    '1.0e-04, 1.00'
    """
    lrs, energies, entropies = (
        _vector(name, values) for name, values in (("lr", lr), ("energy", energy), ("entropy", entropy))
    )
    if not len(lrs) == len(energies) == len(entropies):
        raise ValueError(
            "lr, energy and entropy: must have the same length, "
            f"not {len(lrs)}, {len(energies)} and {len(entropies)}"
        )
    tolerance = require_not_negative("tolerance", tolerance)
    smoothing = require_not_negative("smoothing", smoothing)
    if not (np.isfinite(lrs).all() and (lrs > 0.0).all()):
        raise ValueError("lr: all learning rates must be positive and finite")
    if len(np.unique(lrs)) != len(lrs):
        raise ValueError("lr: each learning rate may appear only once")

    known = ~(np.isnan(energies) | np.isnan(entropies))
    order = np.argsort(lrs)
    used = order[known[order]]
    if len(used) < 2:
        raise ValueError(f"energy, entropy: at least 2 points without NaN are needed, not {len(used)}")

    x = lrs[used]
    kernel = _smoothing_kernel(np.log(x), smoothing)
    u, s = kernel @ energies[used], kernel @ entropies[used]
    lower, upper, feasible = _temperature_bounds(u, s, tolerance)
    with np.errstate(invalid="ignore"):
        temperature = np.where(upper >= 0.0, np.sqrt(lower * upper), np.nan)
    fitted = np.zeros(len(x), dtype=bool)
    fitted[1:-1] = temperature[1:-1] > 0.0
    law = fit_power_law(x[fitted], temperature[fitted])
    return TemperatureFit(
        lr=x,
        energy=u,
        entropy=s,
        temperature=temperature,
        lower=lower,
        upper=upper,
        feasible=feasible,
        prefactor=law.prefactor,
        exponent=law.exponent,
        prefactor_stderr=law.prefactor_stderr,
        exponent_stderr=law.exponent_stderr,
        fitted=fitted,
        excluded=lrs[order[~known[order]]],
    )


def fit_power_law(x: ArrayLike, y: ArrayLike) -> PowerLaw:
    """Fit ``y = prefactor * x ** exponent`` by ordinary least squares of log y on log x.

    Parameters
    ----------
    x, y : array [n]
        Positive values.

    Returns
    -------
    PowerLaw
        Its parameters are NaN for fewer than two different x, its standard errors for fewer than three
        points. The error of the prefactor is that of its logarithm times the prefactor.

    Raises
    ------
    ValueError
        For values that are not positive and finite, or lengths that differ.

    Examples
    --------
    >>> law = pt.fit_power_law([1, 2, 4], [3, 12, 48])
    >>> round(law.prefactor, 6), round(law.exponent, 6)
    (3.0, 2.0)
    """
    xs, ys = _vector("x", x), _vector("y", y)
    if len(xs) != len(ys):
        raise ValueError(f"x and y: must have the same length, not {len(xs)} and {len(ys)}")
    for name, values in (("x", xs), ("y", ys)):
        if not ((values > 0.0) & np.isfinite(values)).all():
            raise ValueError(f"{name}: all values must be positive and finite")
    n = len(xs)
    log_x, log_y = np.log(xs), np.log(ys)
    center = log_x.mean() if n else np.nan
    spread = float(((log_x - center) ** 2).sum())
    if n < 2 or spread == 0.0:
        return PowerLaw(np.nan, np.nan, np.nan, np.nan)
    exponent = float((log_x - center) @ log_y / spread)
    intercept = float(log_y.mean() - exponent * center)
    prefactor = float(np.exp(intercept))
    if n < 3:
        return PowerLaw(prefactor, exponent, np.nan, np.nan)
    residuals = log_y - intercept - exponent * log_x
    variance = float(residuals @ residuals) / (n - 2)
    return PowerLaw(
        prefactor,
        exponent,
        prefactor_stderr=prefactor * float(np.sqrt(variance * (1.0 / n + center**2 / spread))),
        exponent_stderr=float(np.sqrt(variance / spread)),
    )


def free_energy(energy: ArrayLike, entropy: ArrayLike, temperature: ArrayLike) -> Floats:
    """Return the free energy ``U - T S`` of each learning rate at each temperature.

    Parameters
    ----------
    energy, entropy : array [lr]
        Losses U and entropies S (nats).
    temperature : array [...]
        Temperatures in loss units per nat.

    Returns
    -------
    array [..., lr]
        Free energies in loss units.

    Raises
    ------
    ValueError
        For energies and entropies that are not one-dimensional and of one length.

    Examples
    --------
    >>> pt.free_energy([1.0, 2.0], [10.0, 30.0], 0.1)
    array([ 0., -1.])
    """
    u, s = _vector("energy", energy), _vector("entropy", entropy)
    if len(u) != len(s):
        raise ValueError(f"energy and entropy: must have the same length, not {len(u)} and {len(s)}")
    free: Floats = u - as_floats("temperature", temperature)[..., np.newaxis] * s
    return free


def temperature_along_run(energy: ArrayLike, entropy: ArrayLike, half_width: int = 2) -> Floats:
    """Return the temperature along a run that never becomes stationary: the slope of U against S.

    ``T[t] = (U[t + h] - U[t - h]) / (S[t + h] - S[t - h])`` with h the ``half_width``.

    Parameters
    ----------
    energy, entropy : array [n]
        Losses U and entropies S (nats) of the successive measurements of one run.
    half_width : int
        Measurements to each side, at least 1.

    Returns
    -------
    array [n]
        Loss units per nat; NaN for the first and last ``half_width`` measurements and where U or S is
        NaN or S does not change.

    Raises
    ------
    ValueError
        For arrays that are not one-dimensional and of one length, or a wrong ``half_width``.

    Notes
    -----
    Source: arXiv 2505.23489.

    Examples
    --------
    >>> pt.temperature_along_run([4.0, 3.0, 2.0], [9.0, 7.0, 5.0], half_width=1)
    array([nan, 0.5, nan])
    """
    u, s = _vector("energy", energy), _vector("entropy", entropy)
    if len(u) != len(s):
        raise ValueError(f"energy and entropy: must have the same length, not {len(u)} and {len(s)}")
    half_width = require_integer("half_width", half_width, 1)
    temperature = np.full(len(u), np.nan)
    if len(u) <= 2 * half_width:
        return temperature
    rise = u[2 * half_width :] - u[: -2 * half_width]
    run = s[2 * half_width :] - s[: -2 * half_width]
    np.divide(rise, run, out=temperature[half_width:-half_width], where=run != 0.0)
    return temperature


def _vector(name: str, values: Any) -> Floats:
    array = as_floats(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name}: must have one dimension, not {array.ndim}")
    if np.isinf(array).any():
        raise ValueError(f"{name}: holds an infinite value at index {int(np.isinf(array).argmax())}")
    return array


def _smoothing_kernel(log_lr: Floats, half_width: float) -> Floats:
    """Return the smoothing matrix [n, n]: triangular in log lr, rows normalized, end rows untouched."""
    n = len(log_lr)
    kernel = np.maximum(half_width - np.abs(log_lr[:, None] - log_lr[None, :]), 0.0)
    if half_width == 0.0:
        return np.eye(n)
    kernel /= kernel.sum(axis=1, keepdims=True)
    kernel[[0, -1]] = np.eye(n)[[0, -1]]
    return kernel


def _temperature_bounds(u: Floats, s: Floats, tolerance: float) -> tuple[Floats, Floats, Bools]:
    """Return lower and upper temperature of each point, and whether any temperature serves it."""
    rise, run = u[:, None] - u[None, :], s[:, None] - s[None, :]  # of point i over point j
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.where(run > 0.0, (rise - tolerance) / run, -np.inf).max(axis=1)
        upper = np.where(run < 0.0, (rise - tolerance) / run, np.inf).min(axis=1)
    alone_below, alone_above = np.isneginf(lower), np.isposinf(upper)
    lower = np.maximum(lower, 0.0)
    one_bound = alone_below != alone_above
    lower = np.where(alone_below & one_bound, np.maximum(upper, 0.0), lower)
    upper = np.where(alone_above & one_bound, lower, upper)
    # Of two points with equal S only the one with the lower U can be a minimizer.
    outdone = ((run == 0.0) & (rise > tolerance)).any(axis=1)
    return lower, upper, (lower <= upper) & (upper >= 0.0) & ~outdone
