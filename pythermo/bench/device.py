"""The kernels on one device beside its own copy, its matrix products, and torch's way of the same work.

Kernels that do not wait for the device are timed as CUDA graphs on data that its cache does not hold; of the
simulator, whose host works too, two numbers of steps are subtracted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from pythermo import ops, sphere
from pythermo.bench.batch_norm_relu import EPS, Layer, both_passes
from pythermo.bench.device_clock import DeviceClock
from pythermo.bench.device_ensemble import ensemble_seconds, has_room, run_seconds, vmap_seconds
from pythermo.bench.device_training import convolution_seconds, training_step_seconds
from pythermo.bench.ensemble import Case, program_of, step_operations
from pythermo.estimators.entropy import default_ks
from pythermo.ops._devices import free_memory, require_device
from pythermo.ops.batch_norm_relu import batch_norm_relu_by_torch
from pythermo.sphere.settings import DType

# Differences, squares and sums of a pair's coordinate.
_OPERATIONS_PER_COORDINATE = 3

# Additions, multiplications, divisions and square roots of a chain-step of the toy, without random numbers.
_OPERATIONS_PER_CHAIN_STEP = 33

LR = 1e-4


@dataclass(frozen=True)
class Sizes:
    """What is measured: numbers of elements, weights, points [n, D], chains and steps; widths of networks.

    Of ensembles the networks, each with numbers of members.
    """

    copied: int = 2**28
    product: int = 8192
    weights: tuple[int, ...] = (24_408, 1_550_016, 11_159_232)
    clouds: tuple[tuple[int, int], ...] = ((1000, 24_408), (4000, 24_408), (1000, 1_550_016))
    layers: tuple[Layer, ...] = (Layer(128, 8, 32, 1), Layer(128, 64, 32, 1), Layer(128, 128, 32, 2))
    chains: int = 2**20
    chain_steps: tuple[int, int] = (1000, 21_000)
    widths: tuple[int, ...] = (8, 64)
    images: int = 2000
    training_steps: int = 500
    ensembles: tuple[tuple[Case, tuple[int, ...]], ...] = (
        (Case("ConvNet", 2, 1, 8), (32, 192, 1024)),
        (Case("ConvNet", 8, 1, 28), (32, 192, 1024)),
        (Case("ConvNet", 8, 3, 32), (192,)),
        (Case("ResNet18", 4, 3, 32), (96,)),
    )
    ensemble_steps: int = 20


FULL = Sizes()
QUICK = replace(
    FULL,
    clouds=FULL.clouds[:1],
    chain_steps=(1000, 6000),
    widths=(8,),
    training_steps=100,
    ensembles=((FULL.ensembles[1][0], (32,)),),
)


@dataclass(frozen=True)
class DeviceResult:
    """Median seconds of one piece of work, and what it must move and compute; NaN where not counted."""

    work: str
    size: str
    seconds: float
    bytes: float = math.nan
    operations: float = math.nan
    dtype: str = "float32"


def measure(device: str, rounds: int, sizes: Sizes = FULL) -> Iterator[DeviceResult]:
    """Measure all work on a device, the copy and the matrix products first.

    Raises
    ------
    ValueError
        If the device is not there.
    """
    clock = DeviceClock(require_device(device), rounds)
    yield from _ceilings(clock, sizes)
    for weights in sizes.weights:
        yield from _steps(clock, weights)
        yield from _gradient_sums(clock, weights)
    for layer in sizes.layers:
        yield from _normalizations(clock, layer)
    few = DeviceClock(clock.device, min(rounds, 5))
    for points, dim in sizes.clouds:
        yield from _neighbors(few, points, dim)
    yield _chains(few, sizes, "float64")
    yield _chains(few, sizes, "float32")
    for width in sizes.widths:
        yield from _training(few, sizes, width)
    for case, counts in sizes.ensembles:
        yield from _ensembles(few, case, counts, sizes.ensemble_steps)


HEADER = "\n".join(["| work | size | µs | GB/s | of copy | TFLOP/s | of product |", "|" + "---|" * 7])


def row(result: DeviceResult, known: Sequence[DeviceResult]) -> str:
    """Return a row of the Markdown table, with shares of the copy and the product among known results."""
    bandwidth, rate = result.bytes / result.seconds, result.operations / result.seconds
    copied = next((one.bytes / one.seconds for one in known if one.work == "copy"), math.nan)
    products = (one for one in known if one.work == "matrix product" and one.dtype == result.dtype)
    product = next((one.operations / one.seconds for one in products), math.nan)
    cells = [
        _number(1e6 * result.seconds, ".2f"),
        _number(bandwidth / 1e9, ".0f"),
        _number(bandwidth / copied, ".0%"),
        _number(rate / 1e12, ".2f"),
        _number(rate / product, ".1%"),
    ]
    return f"| {result.work} | {result.size}, {result.dtype} | {' | '.join(cells)} |"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _ceilings(clock: DeviceClock, sizes: Sizes) -> Iterator[DeviceResult]:
    source = clock.normal(sizes.copied)
    target = torch.empty_like(source)
    seconds = clock.of(lambda: target.copy_(source))
    yield DeviceResult("copy", f"{source.nbytes} bytes", seconds, bytes=2.0 * source.nbytes)
    for dtype in (torch.float32, torch.float64):
        matrix = clock.normal(sizes.product, sizes.product, dtype=dtype)
        yield DeviceResult(
            "matrix product",
            f"n = {sizes.product}",
            clock.of(partial(torch.matmul, matrix, matrix)),
            operations=2.0 * sizes.product**3,
            dtype=_name(dtype),
        )


def _steps(clock: DeviceClock, weights: int) -> Iterator[DeviceResult]:
    size, floor = f"D = {weights}", 12.0 * weights
    pairs = clock.rotating(lambda: (clock.normal(weights), clock.normal(weights)))
    for step in (ops.projected_sgd_step_, ops.exponential_sgd_step_):
        seconds = clock.of_one([partial(step, w, g, LR) for w, g in pairs])
        yield DeviceResult(step.__name__, size, seconds, bytes=floor)
    seconds = clock.of_one([partial(_step_by_torch, w, g) for w, g in pairs])
    yield DeviceResult("torch's four kernels", size, seconds, bytes=floor)
    w, g = pairs[0]
    seconds = clock.of(lambda: [ops.projected_sgd_step_(w, g, LR) for _ in range(50)]) / 50
    yield DeviceResult("projected_sgd_step_, called from Python, cached", size, seconds, bytes=floor)


@torch.no_grad()
def _step_by_torch(weights: torch.Tensor, grad: torch.Tensor) -> None:
    weights.add_(grad, alpha=-LR)
    weights.mul_(1.0 / torch.linalg.vector_norm(weights))


def _gradient_sums(clock: DeviceClock, weights: int) -> Iterator[DeviceResult]:
    pairs = clock.rotating(lambda: (clock.normal(weights), clock.normal(weights, dtype=torch.float64)))
    seconds = clock.of_one([partial(ops.gradient_sums_, g, center) for g, center in pairs])
    yield DeviceResult("gradient_sums_", f"D = {weights}", seconds, bytes=12.0 * weights)


def _normalizations(clock: DeviceClock, layer: Layer) -> Iterator[DeviceResult]:
    """Measure both passes of a layer; images are read three times, outputs twice, gradients written once."""
    size = f"{list(layer.shape)}, pool {layer.pool}"
    floor = (4 + 4 / layer.pool**2) * layer.bytes
    x = clock.normal(*layer.shape)
    for work, function in (
        ("batch_norm_relu", ops.batch_norm_relu),
        ("torch's normalization, pooling and ReLU", batch_norm_relu_by_torch),
    ):
        passes = both_passes(partial(function, eps=EPS), x, layer.pool, torch.channels_last)
        yield DeviceResult(f"{work}, both passes", size, clock.of_one([passes]), bytes=floor)


def _neighbors(clock: DeviceClock, points: int, dim: int) -> Iterator[DeviceResult]:
    size, ks = f"n = {points}, D = {dim}", default_ks(points)
    cloud = clock.normal(points, dim)
    matrix = torch.empty(points, points, dtype=torch.float64, device=clock.device)
    operations = _OPERATIONS_PER_COORDINATE * points * (points - 1) / 2 * dim
    seconds = clock.of(lambda: ops.knn_distance_sums(cloud, ks))
    yield DeviceResult("knn_distance_sums", size, seconds, operations=operations)
    seconds = clock.of(lambda: ops.update_squared_distances_(matrix, cloud, 0, points))
    yield DeviceResult("its pairs alone", size, seconds, operations=operations)
    seconds = clock.of(lambda: ops.matrix_distance_sums(matrix, ks))
    yield DeviceResult("its selection alone", size, seconds)
    seconds = clock.of(lambda: torch.cdist(cloud, cloud))
    yield DeviceResult("torch.cdist, by a matrix product", size, seconds)
    if free_memory(clock.device) > 12 * cloud.numel():  # a copy in float64, and some more
        seconds = clock.of(lambda: _centered_products(cloud))
        yield DeviceResult("products of centered points", size, seconds, dtype="float64")


def _centered_products(cloud: torch.Tensor) -> torch.Tensor:
    wide = cloud.double()
    wide -= wide.mean(0)
    return wide @ wide.T


def _chains(clock: DeviceClock, sizes: Sizes, dtype: DType) -> DeviceResult:
    system, few, many = sphere.underparameterized(), *sizes.chain_steps

    def seconds(steps: int) -> float:
        return clock.of_waiting(
            lambda: sphere.simulate(
                system,
                0.01,
                steps,
                replicas=sizes.chains,
                record=("loss",),
                device=str(clock.device),
                dtype=dtype,
            )
        )

    of_a_step = (seconds(many) - seconds(few)) / (many - few)
    operations = float(_OPERATIONS_PER_CHAIN_STEP * sizes.chains)
    size = f"a step of {sizes.chains} chains"
    return DeviceResult("sphere.simulate", size, of_a_step, operations=operations, dtype=dtype)


def _training(clock: DeviceClock, sizes: Sizes, width: int) -> Iterator[DeviceResult]:
    for graph in (False, True) if clock.device.type == "cuda" else (False,):
        seconds = training_step_seconds(clock, width, graph, sizes.images, sizes.training_steps)
        how = "captured" if graph else "eager"
        yield DeviceResult(f"a training step, {how}", f"ConvNet({width}), batch 128", seconds)
    for layer, seconds_by_layout in convolution_seconds(clock, width):
        for layout, seconds in seconds_by_layout.items():
            yield DeviceResult(f"a convolution, {layout}", str(layer), seconds, operations=layer.operations)


def _ensembles(clock: DeviceClock, case: Case, counts: Sequence[int], steps: int) -> Iterator[DeviceResult]:
    """Measure a member's share of a step, and one run's alone."""
    operations = step_operations(program_of(case))
    how = "captured" if clock.device.type == "cuda" else "eager"
    alone = run_seconds(clock, case, steps)
    yield DeviceResult(f"a step of one run, {how}", case.title, alone, operations=operations)
    for members in counts:
        size = f"{case.title}, {members} members"
        if not has_room(clock, case, members):
            continue
        seconds = ensemble_seconds(clock, case, members, steps) / members
        yield DeviceResult("a member's step in an ensemble", size, seconds, operations=operations)
    if case.network == "ConvNet":
        seconds = vmap_seconds(clock, case, counts[0], steps) / counts[0]
        size = f"{case.title}, {counts[0]} members"
        yield DeviceResult("a member's step by torch.func.vmap", size, seconds, operations=operations)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
