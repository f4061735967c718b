"""When a run measures, and which iterates it records for that."""

import numpy as np
from numpy.typing import NDArray

_EACH_BEFORE = 10
_KEPT_FROM = 10_000


def measured_iterations(iterations: int, count: int, late: int = 0) -> NDArray[np.int64]:
    """Return iterations 0 to 9, ``count`` log-spaced ones from 10 on, and ``late`` even ones, each once.

    The late ones lie in the second half of the run, the last one at its end. Source: arXiv 2505.23489 for the
    others.
    """
    early = np.arange(min(_EACH_BEFORE, iterations + 1))
    if iterations < _EACH_BEFORE:
        return early
    log_spaced = np.geomspace(_EACH_BEFORE, iterations, count) if count > 1 else [iterations]
    even = np.linspace(iterations / 2, iterations, late + 1)[1:]
    return np.unique(np.concatenate([early, *(np.round(one).astype(np.int64) for one in (log_spaced, even))]))


def window_is_full(iteration: int, window: int, stride: int) -> bool:
    """Return whether a window of iterates 0, stride, 2 stride ... has so many of them at an iteration."""
    return iteration // stride + 1 >= window


def recorded_iterates(
    iterations: int, measured: NDArray[np.int64], window: int, stride: int = 1
) -> NDArray[np.bool_]:
    """Return for each iterate, 0 to ``iterations``, whether a coming entropy needs it [iterations + 1].

    An entropy is that of the last ``window`` of the iterates 0, stride, 2 stride ...
    """
    needed = np.zeros(iterations + 1, dtype=bool)
    for end in measured:
        if window_is_full(end, window, stride):
            last = end // stride * stride
            needed[last - (window - 1) * stride : last + 1 : stride] = True
    return needed


def rescaled_iterations(iterations: int) -> set[int]:
    """Return the iterations at which the norm is set to the predicted one: a tenth of the run, and before.

    Each is four times the one before: at a fixed learning rate the norm and the effective learning rate, on
    which the gradients depend that predict it, are found together.
    """
    return {iterations // 10 // 4**times for times in range(4)} - {0}


def kept_iterations(iterations: int, count: int) -> NDArray[np.int64]:
    """Return the iterations whose weights are kept: the end; of two and more the start, and log-spaced ones.

    These begin at 10^4, or at a hundredth of a run that is shorter than 10^6. Source: arXiv 2505.23489.
    """
    if count < 2:
        return np.array([iterations][:count], dtype=np.int64)
    late = np.geomspace(min(_KEPT_FROM, max(iterations // 100, 1)), iterations, count - 1)
    late[-1] = iterations  # of one alone too
    return np.unique(np.round([0, *late]).astype(np.int64))
