"""Times of work on a device: its kernels without Python between them, their data not in its cache."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Call = Callable[[], object]


class DeviceClock:
    """Times calls on a device: by CUDA's events there, by the wall clock on the CPU.

    Parameters
    ----------
    device : torch.device
        The CPU, or a CUDA device with its number.
    rounds : int
        Times are medians over so many repetitions.
    cache_bytes : int, optional
        Size of the device's largest cache; by default that of a CUDA device's L2, and 0 on the CPU.
    """

    def __init__(self, device: torch.device, rounds: int, cache_bytes: int | None = None) -> None:
        self.device = device
        self.rounds = rounds
        self.cache_bytes = _l2_bytes(device) if cache_bytes is None else cache_bytes
        self._generator = torch.Generator(device).manual_seed(1)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return normal deviates, rows of a norm of about 1."""
        deviates = torch.randn(*shape, generator=self._generator, device=self.device, dtype=dtype)
        return deviates.div_(math.sqrt(shape[-1]))

    def rotating(self, make: Callable[[], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """Return sets of tensors, together twice as large as the cache: used in turn, each is read anew."""
        sets = [make()]
        bytes_of_one = sum(tensor.nbytes for tensor in sets[0])
        sets += [make() for _ in range(math.ceil(2 * self.cache_bytes / bytes_of_one) - 1)]
        return sets

    def of_one(self, calls: Sequence[Call], at_least: int = 24) -> float:
        """Return the seconds of one call of several that follow each other, on CUDA devices as one graph.

        Parameters
        ----------
        calls : sequence of callable
            Must not wait for the device; they are repeated until there are ``at_least`` so many.
        """
        calls = list(calls) * math.ceil(at_least / len(calls))
        return self.of(_at_once(calls) if self.device.type == "cpu" else self._captured(calls)) / len(calls)

    def of(self, work: Call) -> float:
        """Return the seconds of a piece of work, after one that warms up."""
        work()
        return statistics.median(self._seconds(work) for _ in range(self.rounds))

    def of_waiting(self, work: Call) -> float:
        """Return the seconds by the wall clock until the device has done a piece of work."""
        return statistics.median(self._wall_seconds(work) for _ in range(self.rounds))

    def _captured(self, calls: Sequence[Call]) -> Call:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            with _beside() as stream:
                _at_once(calls)()
            with torch.cuda.graph(graph, stream=stream):
                _at_once(calls)()
        return graph.replay

    def _seconds(self, work: Call) -> float:
        if self.device.type == "cpu":
            return self._wall_seconds(work)
        with torch.cuda.device(self.device):
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begun.record()
            work()
            ended.record()
            ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3

    def _wall_seconds(self, work: Call) -> float:
        started = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started


def _l2_bytes(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0


def _at_once(calls: Sequence[Call]) -> Call:
    return lambda: [call() for call in calls]


@contextmanager
def _beside() -> Iterator[torch.cuda.Stream]:
    """Work on a stream of its own, between what came before and what comes after: a capture's warm-up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield stream
    torch.cuda.current_stream().wait_stream(stream)
