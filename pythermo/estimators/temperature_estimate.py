"""A temperature with an honest error: convex regression over means, errors by redrawing seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from pythermo._checks import Floats, as_floats, require_integer, require_open_unit
from pythermo.estimators.convex_regression import ConvexFit, convex_regression

# Errors of S count as the temperature times them, which is known after a first fit.
_ROUNDS = 3
# Squared standard errors by which a point that lies on the curve may seem to be off it.
_ROUNDING = 1e-9

# Deviations are half the distance of these quantiles of resamples: of a normal distribution one standard
# deviation, and infinite where too many have no temperature.
_ONE_SIGMA = (0.15865525393145707, 0.8413447460685429)


@dataclass(frozen=True)
class TemperatureEstimate:
    """Temperatures of learning rates, the law through them, and how far to trust both.

    Intervals and the p-value are None where there is one seed only: its scatter says nothing of them.

    Attributes
    ----------
    lr : array [n]
        Ascending; those with a seed whose U and S are known.
    energy, entropy : array [n]
        Means over seeds; U as the convex curve has it at these S, in loss units, and S in nats.
    temperature : array [n]
        Loss units per nat: the geometric mean of the curve's slopes on both sides; of the one slope at the
        least and the largest S.
    interval : array [n, 2], or None
        Of each temperature, from 0 or to infinity where it has no bound; NaN at the least and the largest S.
    reference_lr : float
        The geometric middle of the learning rates; of those that the law goes through, where T is 0 at some
        between the least and the largest S.
    reference_temperature, exponent : float
        Of the law ``T = reference_temperature * (lr / reference_lr) ** exponent`` through the temperatures
        between the least and the largest S; NaN for fewer than two of them that are positive.
    reference_interval, exponent_interval : array [2], or None
        Theirs.
    convexity_p_value : float, or None
        The probability that one of the points of a convex curve lies as far from the fitted one, in standard
        errors, as the farthest of these. A small one tells of a jump, or of points that are not stationary.
    confidence : float
        Of the intervals.
    seeds : int
        The fewest seeds that a learning rate has.
    excluded : array
        The learning rates without a seed whose U and S are known.
    """

    lr: Floats
    energy: Floats
    entropy: Floats
    temperature: Floats
    interval: Floats | None
    reference_lr: float
    reference_temperature: float
    reference_interval: Floats | None
    exponent: float
    exponent_interval: Floats | None
    convexity_p_value: float | None
    confidence: float
    seeds: int
    excluded: Floats


@dataclass(frozen=True)
class _Members:
    """U and S of members [n, seeds], NaN where one is not known, at ascending learning rates [n]."""

    lr: Floats
    energy: Floats
    entropy: Floats

    @property
    def seeds(self) -> NDArray[np.int64]:
        """How many are known at each learning rate [n]."""
        counts: NDArray[np.int64] = np.isfinite(self.energy).sum(axis=1)
        return counts

    def redrawn(self, random: np.random.Generator) -> "_Members":
        """Return members whose seeds are drawn anew, with replacement, among those of each learning rate."""
        energy, entropy = np.full_like(self.energy, np.nan), np.full_like(self.entropy, np.nan)
        for i, seeds in enumerate(self.seeds):
            known = np.flatnonzero(np.isfinite(self.energy[i]))
            chosen = random.choice(known, seeds)
            energy[i, :seeds], entropy[i, :seeds] = self.energy[i, chosen], self.entropy[i, chosen]
        return _Members(self.lr, energy, entropy)

    def drawn_around(self, energy: Floats, entropy: Floats, random: np.random.Generator) -> "_Members":
        """Return normal members around other means [n], with these members' covariances of U and S."""
        seeds = self.energy.shape[1]
        mixed = random.normal(size=(len(self.lr), seeds, seeds)) / np.sqrt(self.seeds - 1)[:, None, None]
        drawn = (
            mean[:, None] + (mixed @ np.nan_to_num(own - _mean(own)[:, None])[:, :, None])[:, :, 0]
            for own, mean in ((self.energy, energy), (self.entropy, entropy))
        )
        known = np.isfinite(self.energy)
        return _Members(self.lr, *(np.where(known, one, np.nan) for one in drawn))


def _mean(values: Floats) -> Floats:
    """Return the means over the seeds that are known [n]."""
    known = np.isfinite(values)
    means: Floats = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return means


@dataclass(frozen=True)
class _Curve:
    """The convex curve through members' means, and what follows from it."""

    energy: Floats
    entropy: Floats
    fit: ConvexFit
    temperature: Floats
    inner: NDArray[np.bool_]
    middle: float  # the logarithm of the learning rate that the law's reference is at
    log_reference: float
    exponent: float


@dataclass(frozen=True)
class _Scatter:
    """How U and S of members scatter: their variances and covariance over seeds [n], and how many seeds."""

    energy: Floats
    entropy: Floats
    together: Floats
    seeds: NDArray[np.int64]

    @classmethod
    def of(cls, members: _Members) -> "_Scatter":
        """Return that of members; zero for one seed."""
        seeds, known = members.seeds, np.isfinite(members.energy)
        energy, entropy = (
            np.where(known, own - _mean(own)[:, None], 0.0) for own in (members.energy, members.entropy)
        )
        free = np.maximum(seeds - 1, 1)
        products = ((energy, energy), (entropy, entropy), (energy, entropy))
        of_energy, of_entropy, together = (np.einsum("ij,ij->i", *pair) / free for pair in products)
        return cls(of_energy, of_entropy, together, seeds)

    def weights(self, temperature: Floats) -> Floats:
        """Return one over the variance of each mean of U - T S; all alike for one seed."""
        if self.seeds.min() < 2:
            return np.ones(len(self.seeds))
        apart = self.energy - 2 * temperature * self.together + temperature**2 * self.entropy
        variance = _shrunk(np.maximum(apart, 0.0), temperature, self.seeds) / self.seeds
        largest = float(variance.max())
        return 1.0 / np.maximum(variance, 1e-12 * largest) if largest > 0.0 else np.ones(len(variance))


def _shrunk(variance: Floats, temperature: Floats, seeds: NDArray[np.int64]) -> Floats:
    """Draw the variances of U - T S of few seeds, in nats, towards their mean over learning rates.

    So far that what is left is how they truly differ: the variance of a variance of R seeds is 2 / (R - 1) of
    its square (empirical Bayes).
    """
    shrunk, hot = np.array(variance), temperature > 0.0
    if hot.sum() > 1:
        unit = temperature[hot] ** 2
        in_nats = variance[hot] / unit
        mean, by_chance = in_nats.mean(), 2.0 / (seeds[hot] - 1)
        if mean > 0.0:
            spread = np.var(in_nats, ddof=1) / mean**2
            own = np.maximum(0.0, (spread - by_chance) / (1.0 + by_chance))
            shrunk[hot] = (mean + own / (own + by_chance) * (in_nats - mean)) * unit
    return shrunk


def _curve(members: _Members, scatter: _Scatter, middle: float | None = None) -> _Curve:
    """Fit the convex curve to members' means, weighted by a scatter, and the law to its temperatures.

    The law's reference is at ``middle``, the curve's own if not given.
    """
    energy, entropy = _mean(members.energy), _mean(members.entropy)
    temperature = np.zeros(len(energy))
    for _ in range(1 + _ROUNDS):
        fit = convex_regression(entropy, energy, scatter.weights(temperature))
        temperature = np.sqrt(fit.left * fit.right)
    inner = (entropy > entropy.min()) & (entropy < entropy.max())
    used = inner & (temperature > 0.0)
    if middle is None:
        middle = _log_middle(members.lr if used[inner].all() or not used.any() else members.lr[used])
    log_reference = exponent = np.nan
    if used.sum() >= 2:
        exponent, log_reference = np.polyfit(np.log(members.lr[used]) - middle, np.log(temperature[used]), 1)
    return _Curve(fit.values, entropy, fit, temperature, inner, middle, float(log_reference), float(exponent))


def _log_middle(lr: Floats) -> float:
    return float(np.mean(np.log(lr[[0, -1]])))


def estimate_temperature(
    lr: ArrayLike,
    energy: ArrayLike,
    entropy: ArrayLike,
    confidence: float = 0.9,
    resamples: int = 1000,
    seed: int = 0,
) -> TemperatureEstimate:
    """Find the temperature at which SGD minimizes ``U - T S``, and how far its seeds let one trust it.

    The means over seeds of U are fitted by a convex, increasing function of those of S, weighted by one over
    the variance of the means of ``U - T S``. Its slope is T: between two neighbors there is one, and at a
    point the slopes on both sides bound the temperatures that make it the minimizer.

    Parameters
    ----------
    lr : array [n]
        Learning rates, positive and different from each other, in any order.
    energy, entropy : array [n, seeds] or [n]
        Stationary losses U and entropies S (nats) of members; NaN where one is not known.
    confidence : float
        Of the intervals, between 0 and 1.
    resamples : int
        How often the seeds of each learning rate are redrawn.
    seed : int
        Of what is redrawn.

    Returns
    -------
    TemperatureEstimate

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, infinite values, learning rates that are not positive or repeat, fewer
        than two of them with known members, with several seeds one at which a single one is known, or
        entropies that are all equal.

    Notes
    -----
    Assumes that the members are stationary, differ in their training draws alone, and that S is known up to a
    constant common to all. An interval is that of Student's t around log T, or the exponent, with the
    deviation among resamples times ``sqrt(R / (R - 1))`` of R seeds: percentiles of so few seeds cover too
    seldom. It covers where U and S are known to a fraction of their steps between learning rates. Where a
    jump leaves the curve, see ``convexity_p_value``: of 8 seeds it lies below 0.1 for 92 % of jumps by 4
    standard errors of U - T S above a chord, for 9 % of straight U(S) and for 1 % of curved ones (400
    trials). Variances of U - T S, in nats, are drawn towards their mean as far as few seeds tell them apart.
    The definition of T: arXiv 2505.23489.

    Examples
    --------
    U = lr and S = 100 log(lr), so that T = dU/dS = lr / 100:

    >>> lr = np.geomspace(1e-3, 1e-1, 9)
    >>> noise = 1 + 0.01 * np.random.default_rng(0).normal(size=(9, 8))
    >>> found = pt.estimate_temperature(lr, lr[:, None] * noise, np.tile(100 * np.log(lr)[:, None], 8))
    >>> f"{found.reference_temperature:.1e} {found.exponent:.2f}"
    '1.0e-04 1.00'
    """
    members, excluded = _members(lr, energy, entropy)
    confidence = require_open_unit("confidence", confidence)
    resamples = require_integer("resamples", resamples, 10)
    random = np.random.default_rng(require_integer("seed", seed, 0, 2**63 - 1))
    scatter = _Scatter.of(members)
    found, fewest = _curve(members, scatter), int(members.seeds.min())
    interval = reference_interval = exponent_interval = p_value = None
    if fewest > 1:
        # Weights stay as they are: a few seeds drawn anew may all be one, which scatters nowhere.
        again = [_curve(members.redrawn(random), scatter, found.middle) for _ in range(resamples)]
        factor = np.sqrt(fewest / (fewest - 1)) * student.ppf(0.5 + confidence / 2, fewest - 1)

        def around(value: Floats | float, of: Callable[[_Curve], Any]) -> Floats:
            low, high = np.quantile(np.array([of(one) for one in again]), _ONE_SIGMA, axis=0)
            half = np.nan_to_num(factor * (high - low) / 2, nan=np.inf, posinf=np.inf)
            return np.stack([value - half, value + half], axis=-1)

        with np.errstate(divide="ignore", invalid="ignore"):
            of_points = around(np.log(found.temperature), lambda one: np.log(one.temperature))
        bounds = np.nan_to_num(np.exp(of_points), nan=np.inf, posinf=np.inf)
        interval = np.where(found.inner[:, None], bounds, np.nan)
        reference_interval = np.exp(around(found.log_reference, lambda one: one.log_reference))
        exponent_interval = around(found.exponent, lambda one: one.exponent)
        p_value = _convexity_p_value(members, found, resamples, random)
    return TemperatureEstimate(
        lr=members.lr,
        energy=found.energy,
        entropy=found.entropy,
        temperature=found.temperature,
        interval=interval,
        reference_lr=float(np.exp(found.middle)),
        reference_temperature=float(np.exp(found.log_reference)),
        reference_interval=reference_interval,
        exponent=found.exponent,
        exponent_interval=exponent_interval,
        convexity_p_value=p_value,
        confidence=confidence,
        seeds=fewest,
        excluded=excluded,
    )


def _convexity_p_value(
    members: _Members, found: _Curve, resamples: int, random: np.random.Generator
) -> float:
    """Return how often one of normal members' means lies as far from their curve as the farthest of these."""
    farther = 0
    for _ in range(resamples):
        drawn = members.drawn_around(found.energy, found.entropy, random)
        farther += _curve(drawn, _Scatter.of(drawn)).fit.farthest >= found.fit.farthest - _ROUNDING
    return (1 + farther) / (1 + resamples)


def _members(lr: Any, energy: Any, entropy: Any) -> tuple[_Members, Floats]:
    """Return the members that are known, by ascending learning rate, and the learning rates without one."""
    lrs, energies, entropies = (
        as_floats(name, values) for name, values in (("lr", lr), ("energy", energy), ("entropy", entropy))
    )
    if lrs.ndim != 1:
        raise ValueError(f"lr: must have the shape [n], not {list(lrs.shape)}")
    if not (np.isfinite(lrs).all() and (lrs > 0.0).all() and len(np.unique(lrs)) == len(lrs)):
        raise ValueError("lr: all learning rates must be positive, finite and different from each other")
    if energies.shape != entropies.shape or energies.shape[:1] != lrs.shape or energies.ndim > 2:
        raise ValueError(
            "lr, energy, entropy: must have the shapes [n], and [n, seeds] or [n] both, "
            f"not {list(lrs.shape)}, {list(energies.shape)} and {list(entropies.shape)}"
        )
    for name, values in (("energy", energies), ("entropy", entropies)):
        if np.isinf(values).any():
            raise ValueError(f"{name}: must be finite, or NaN where it is not known")
    energies, entropies = energies.reshape(len(lrs), -1), entropies.reshape(len(lrs), -1)
    known = np.isfinite(energies) & np.isfinite(entropies)
    order = np.argsort(lrs)
    used, counts = order[known[order].any(axis=1)], known.sum(axis=1)
    if len(used) < 2:
        raise ValueError(f"energy, entropy: known members at 2 learning rates are needed, not at {len(used)}")
    if counts[used].min() == 1 < counts[used].max():
        alone = lrs[used[counts[used].argmin()]]
        raise ValueError(
            f"energy, entropy: at lr {alone:.6g} one seed is known and at others several; an interval needs "
            "two of each: leave it out, or give one seed of all"
        )
    members = _Members(
        lrs[used],
        np.where(known, energies, np.nan)[used],
        np.where(known, entropies, np.nan)[used],
    )
    if len(np.unique(_mean(members.entropy))) == 1:
        raise ValueError("entropy: all means are equal; a temperature needs two that differ")
    return members, lrs[order[~known[order].any(axis=1)]]
