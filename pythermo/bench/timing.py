"""Timing by interleaved repetitions: what disturbs the machine disturbs all contenders."""

import statistics
import time
from collections.abc import Callable, Mapping


def median_seconds(
    contenders: Mapping[str, Callable[[], object]], rounds: int, seconds_per_turn: float
) -> dict[str, float]:
    """Return the median time of one call of each contender, in seconds.

    Parameters
    ----------
    contenders : mapping of str to callable
        Functions without arguments, by name.
    rounds : int
        Each contender has one turn per round; its time is the median over the rounds.
    seconds_per_turn : float
        A turn is as many calls, one after the other, as fit in here (at least one).
    """
    calls = {}
    for name, call in contenders.items():
        call()
        started = time.perf_counter()
        call()
        calls[name] = max(1, int(seconds_per_turn / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            call()  # its own data come back into the cache
            started = time.perf_counter()
            for _ in range(calls[name]):
                call()
            times[name].append((time.perf_counter() - started) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}
