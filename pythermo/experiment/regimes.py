"""The regimes of a sweep: where SGD converges, where it is in equilibrium, where it is chaotic."""

from enum import StrEnum

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

# U falls as a power of the iteration, by this exponent at least, and so steadily that ranks show it.
LEAST_DECAY = 0.1
_LEAST_RANK_CORRELATION = 0.7


class Regime(StrEnum):
    """What SGD at one learning rate does in its last measurements.

    CONVERGENCE: U and S still fall, U as t^-0.1 or faster, both with rank correlations of the iteration
    below -0.7: the temperature goes to zero with t.
    CHAOS: U is above the loss of the best constant prediction, which knows nothing of the images.
    JUMP: the point (S, U) lies above the lower convex hull of the fitted points by more than the
    tolerance, so that no temperature makes it the minimiser of U - T S: as between two phases of a
    transition of first order.
    EQUILIBRIUM: all others.
    """

    CONVERGENCE = "convergence"
    EQUILIBRIUM = "equilibrium"
    JUMP = "jump"
    CHAOS = "chaos"


def regimes(sweep: xr.Dataset, last: int, k: int) -> NDArray[np.str_]:
    """Return the regimes [lr] of a sweep's runs, jumps apart: those are found by the fit.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k; the attribute ``constant_loss`` is the loss of the
        best constant prediction, in loss units.
    last : int
        Number of measurements that are looked at, from the end.
    k : int
        Number of neighbours of the entropy.
    """
    tail = sweep.isel(iteration=slice(-last, None))
    energies, entropies = (
        one.transpose("lr", ...).values for one in (tail["loss"], tail["entropy"].sel(k=k))
    )
    chance = float(sweep.attrs["constant_loss"])
    found = []
    for energy, entropy in zip(energies, entropies, strict=True):
        if energy.mean() > chance:
            found.append(Regime.CHAOS)
        elif _falls(tail["iteration"].values, energy, entropy):
            found.append(Regime.CONVERGENCE)
        else:
            found.append(Regime.EQUILIBRIUM)
    return np.array([one.value for one in found])


def longest_stretch(chosen: NDArray[np.bool_]) -> slice:
    """Return the longest stretch of true values, the first of equally long ones; empty if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    if len(starts) == 0:
        return slice(0, 0)
    longest = int(np.argmax(stops - starts))
    return slice(int(starts[longest]), int(stops[longest]))


def _falls(iteration: NDArray[np.int64], energy: NDArray[np.float64], entropy: NDArray[np.float64]) -> bool:
    if len(energy) < 3 or not (np.isfinite(energy).all() and np.isfinite(entropy).all()):
        return False
    if np.ptp(energy) == 0.0 or np.ptp(entropy) == 0.0:
        return False
    tiny = np.finfo(np.float64).tiny
    decay = -np.polyfit(np.log(iteration), np.log(np.maximum(energy, tiny)), 1)[0]
    ranks = [float(spearmanr(iteration, values).statistic) for values in (energy, entropy)]
    return bool(decay > LEAST_DECAY and max(ranks) < -_LEAST_RANK_CORRELATION)
