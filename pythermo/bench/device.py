"""The kernels on one device beside its own copy and matrix product: what share of the hardware they reach."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pythermo import ops, sphere
from pythermo.entropy import default_ks
from pythermo.ops._devices import require_device

# Differences, squares and sums of a pair's coordinate.
_OPERATIONS_PER_COORDINATE = 3

# Additions, multiplications, divisions and square roots of a chain-step of the toy, without random numbers.
_OPERATIONS_PER_CHAIN_STEP = 33

STEP_SIZES = (24_408, 1_550_016, 11_159_232)


@dataclass(frozen=True)
class DeviceResult:
    """Median seconds of a kernel, the bytes that it must move and the operations that it must make."""

    kernel: str
    size: str
    seconds: float
    bytes: float
    operations: float
    copy_bandwidth: float
    product_rate: float

    @property
    def of_copy(self) -> float:
        """Bytes per second, of those of a copy."""
        return self.bytes / self.seconds / self.copy_bandwidth

    @property
    def of_product(self) -> float:
        """Operations per second, of those of a float32 matrix product."""
        return self.operations / self.seconds / self.product_rate


def measure(device: str, rounds: int, smaller: int = 1) -> list[DeviceResult]:
    """Measure every kernel on a device, at sizes divided by ``smaller``.

    Raises
    ------
    ValueError
        If the device is not there: nothing is measured then.
    """
    where = require_device(device)
    clock = _Clock(where, rounds)
    copy_bandwidth = _copy_bandwidth(clock, 2**28 // smaller)
    product_rate = _product_rate(clock, 8192 // smaller)
    found = [
        *(_step(clock, size // smaller) for size in STEP_SIZES),
        _gradient(clock, STEP_SIZES[1] // smaller),
        _neighbours(clock, 1000 // min(smaller, 4), 24_408 // smaller),
        _simulator(clock, 2**20 // smaller, 1000),
    ]
    return [DeviceResult(*one, copy_bandwidth, product_rate) for one in found]


def table(results: list[DeviceResult]) -> str:
    """Lay the results out as a Markdown table."""
    lines = [
        "| kernel | size | µs | GB/s | of copy | GFLOP/s | of product |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| {r.kernel} | {r.size} | {1e6 * r.seconds:.1f} | {r.bytes / r.seconds / 1e9:.0f} "
        f"| {100 * r.of_copy:.0f} % | {r.operations / r.seconds / 1e9:.0f} | {100 * r.of_product:.1f} % |"
        for r in results
    ]
    return "\n".join(lines)


# A kernel's name, its size, seconds, bytes and operations.
_Found = tuple[str, str, float, float, float]


def _copy_bandwidth(clock: "_Clock", size: int) -> float:
    source = torch.ones(size, device=clock.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / clock.median(lambda: target.copy_(source))


def _product_rate(clock: "_Clock", size: int) -> float:
    matrix = torch.ones(size, size, device=clock.device)
    return 2 * size**3 / clock.median(lambda: matrix @ matrix)


def _step(clock: "_Clock", size: int) -> _Found:
    weights, grad = clock.normal(size), clock.normal(size)
    seconds = clock.median(lambda: ops.projected_sgd_step_(weights, grad, 1e-4))
    return "projected_sgd_step_", f"D = {size}", seconds, 12.0 * size, 5.0 * size


def _gradient(clock: "_Clock", size: int) -> _Found:
    grad, center = clock.normal(size), clock.normal(size).double()
    seconds = clock.median(lambda: ops.gradient_sums_(grad, center))
    return "gradient_sums_", f"D = {size}", seconds, 12.0 * size, 5.0 * size


def _neighbours(clock: "_Clock", points: int, dim: int) -> _Found:
    cloud = clock.normal(points, dim)
    ks = default_ks(points)
    seconds = clock.median(lambda: ops.knn_distance_sums(cloud, ks))
    operations = _OPERATIONS_PER_COORDINATE * points**2 * dim
    return "knn_distance_sums", f"n = {points}, D = {dim}", seconds, cloud.nbytes, operations


def _simulator(clock: "_Clock", chains: int, steps: int) -> _Found:
    system, device = sphere.underparameterized(), str(clock.device)

    def run() -> None:
        sphere.simulate(system, 0.01, steps, replicas=chains, record=("loss",), device=device)

    operations = _OPERATIONS_PER_CHAIN_STEP * chains * steps
    return "sphere.simulate", f"{chains} chains, {steps} steps", clock.median(run), 56.0 * chains, operations


class _Clock:
    """Times work on a device: by CUDA's events there, by the wall clock on the CPU."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device = device
        self._rounds = rounds
        self._generator = torch.Generator(device).manual_seed(1)

    def normal(self, *shape: int) -> Tensor:
        """Return normal deviates, to a norm of about 1."""
        deviates = torch.randn(*shape, generator=self._generator, device=self.device)
        return deviates / math.sqrt(shape[-1])

    def median(self, work: Callable[[], object]) -> float:
        """Return the median seconds of one call, after two that warm up."""
        work(), work()
        return statistics.median(self._seconds(work) for _ in range(self._rounds))

    def _seconds(self, work: Callable[[], object]) -> float:
        if self.device.type == "cpu":
            started = time.perf_counter()
            work()
            return time.perf_counter() - started
        with torch.cuda.device(self.device):
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            work()
            ended.record()
            ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3
