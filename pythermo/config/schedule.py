"""When a run measures, and which iterates it records for that."""

import numpy as np
from numpy.typing import NDArray

_EACH_BEFORE = 10
_KEPT_FROM = 10_000


def measured_iterations(iterations: int, count: int) -> NDArray[np.int64]:
    """Return iterations 0 to 9 and ``count`` log-spaced ones from 10 to the end, each once.

    Source: arXiv 2505.23489.
    """
    early = np.arange(min(_EACH_BEFORE, iterations + 1))
    if iterations < _EACH_BEFORE:
        return early
    late = np.geomspace(_EACH_BEFORE, iterations, count) if count > 1 else [iterations]
    return np.unique(np.concatenate([early, np.round(late).astype(np.int64)]))


def recorded_iterates(iterations: int, measured: NDArray[np.int64], window: int) -> NDArray[np.bool_]:
    """Return for each iterate, 0 to ``iterations``, whether a coming entropy needs it [iterations + 1]."""
    needed = np.zeros(iterations + 1, dtype=bool)
    for end in measured[measured >= window - 1]:
        needed[end - window + 1 : end + 1] = True
    return needed


def kept_iterations(iterations: int, count: int) -> NDArray[np.int64]:
    """Return the iterations whose weights are kept: the end; of two and more the start, and log-spaced ones.

    These begin at 10^4, or at a hundredth of a run that is shorter than 10^6. Source: arXiv 2505.23489.
    """
    if count < 2:
        return np.array([iterations][:count], dtype=np.int64)
    late = np.geomspace(min(_KEPT_FROM, max(iterations // 100, 1)), iterations, count - 1)
    late[-1] = iterations  # of one alone too
    return np.unique(np.round([0, *late]).astype(np.int64))
