"""The regimes of a sweep: where SGD converges, where it is in equilibrium, where it is chaotic."""

from enum import StrEnum

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pythermo.analysis.stationary import with_seeds

# U falls as a power of the iteration, by this exponent at least, and so steadily that ranks show it.
LEAST_DECAY = 0.1
_LEAST_RANK_CORRELATION = 0.7
# Of the loss of a constant prediction: float32 leaves no less of it.
LEAST_SHARE = 1e-9


class Regime(StrEnum):
    """What SGD at one learning rate does in its last measurements.

    CONVERGENCE: U and S still fall, U as t^-0.1 or faster, both with rank correlations of the iteration
    below -0.7: the temperature goes to zero with t. Or they are at the end of that: U is below 1e-9 of the
    loss of the best constant prediction, or S has stopped, as the iterates have.
    CHAOS: U is above the loss of the best constant prediction, which knows nothing of the images.
    JUMP: the point (S, U) lies above the lower convex hull of the fitted points by more than the
    tolerance, so that no temperature makes it the minimizer of U - T S: as between two phases of a
    transition of first order.
    UNKNOWN: U or S is not finite.
    DRIFT: it may be on its way to equilibrium: U or S drifts by more than matters, or it cannot be told that
    it does not; found for learning rates, not for single seeds (`pythermo.stationarity`).
    EQUILIBRIUM: all others.
    MIXED: of a learning rate none of whose regimes has more than half of the seeds.
    """

    CONVERGENCE = "convergence"
    DRIFT = "drift"
    EQUILIBRIUM = "equilibrium"
    JUMP = "jump"
    CHAOS = "chaos"
    UNKNOWN = "unknown"
    MIXED = "mixed"


def regimes(sweep: xr.Dataset, last: int, k: int) -> xr.DataArray:
    """Return the regimes [lr, seed] of a sweep's runs; drifts and jumps are found for learning rates alone.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed; the attribute
        ``constant_loss`` is the loss of the best constant prediction, in loss units.
    last : int
        Number of measurements that are looked at, from the end.
    k : int
        Number of neighbors of the entropy.

    Raises
    ------
    ValueError
        For a Dataset that lacks that attribute.
    """
    if "constant_loss" not in sweep.attrs:
        raise ValueError("sweep: lacks the attribute constant_loss, the loss of the best constant prediction")
    chance = float(sweep.attrs["constant_loss"])
    tail = with_seeds(sweep).isel(iteration=slice(-last, None))
    energies, entropies = (
        one.transpose("lr", "seed", "iteration")
        for one in (tail["loss"], tail["entropy"].sel(k=k, drop=True))
    )
    found = np.empty(energies.shape[:2], dtype=object)
    for run in np.ndindex(found.shape):
        found[run] = _regime(
            tail["iteration"].values, energies.values[run], entropies.values[run], chance
        ).value
    return xr.DataArray(
        found.astype(str), coords={"lr": sweep["lr"], "seed": tail["seed"]}, dims=("lr", "seed")
    )


def _regime(
    iteration: NDArray[np.int64], energy: NDArray[np.float64], entropy: NDArray[np.float64], chance: float
) -> Regime:
    if not (np.isfinite(energy).all() and np.isfinite(entropy).all()):
        return Regime.UNKNOWN
    if energy.mean() > chance:
        return Regime.CHAOS
    if _has_stopped(energy, entropy, chance) or _falls(iteration, energy, entropy):
        return Regime.CONVERGENCE
    return Regime.EQUILIBRIUM


def of_most_seeds(members: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the regime [lr] of more than half of the seeds, or `Regime.MIXED`, and the largest share."""
    order = [regime.value for regime in Regime]
    counts = np.stack([(members == regime).sum("seed").values for regime in order])
    share = counts.max(axis=0) / members.sizes["seed"]
    regime = np.where(share > 0.5, np.array(order)[counts.argmax(axis=0)], Regime.MIXED.value)
    return tuple(xr.DataArray(one, coords={"lr": members["lr"]}, dims="lr") for one in (regime, share))  # type: ignore[return-value]


def longest_stretch(chosen: NDArray[np.bool_]) -> slice:
    """Return the longest stretch of true values, the first of equally long ones; empty if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    if len(starts) == 0:
        return slice(0, 0)
    longest = int(np.argmax(stops - starts))
    return slice(int(starts[longest]), int(stops[longest]))


def _has_stopped(energy: NDArray[np.float64], entropy: NDArray[np.float64], chance: float) -> bool:
    return bool(energy.mean() < LEAST_SHARE * chance or (len(entropy) > 1 and np.ptp(entropy) == 0.0))


def _falls(iteration: NDArray[np.int64], energy: NDArray[np.float64], entropy: NDArray[np.float64]) -> bool:
    if len(energy) < 3 or np.ptp(energy) == 0.0:
        return False
    decay = -np.polyfit(np.log(iteration), np.log(np.maximum(energy, np.finfo(np.float64).tiny)), 1)[0]
    ranks = [float(spearmanr(iteration, values).statistic) for values in (energy, entropy)]
    return bool(decay > LEAST_DECAY and max(ranks) < -_LEAST_RANK_CORRELATION)
