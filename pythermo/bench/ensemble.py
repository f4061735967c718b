"""A training step of members side by side, against torch one by one, its vmap, and JAX where it is there."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pythermo import _core
from pythermo.bench.timing import median_seconds
from pythermo.config.member import Member
from pythermo.config.schema import DataConfig, MeasurementConfig, PackageNetwork, RunConfig, TrainingConfig
from pythermo.data import Images
from pythermo.models.layers import FrozenHead
from pythermo.ops.lanes_batch_norm import add_gradient_moments, add_moments, normalize, normalize_back
from pythermo.ops.lanes_convolution import add_weight_gradients, convolve, convolve_back
from pythermo.training.lane_layout import aligned_empty
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.network import build_network
from pythermo.training.program import BatchNorm, Convolution, Program, read_program
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

_BATCH, _IMAGES, _LR = 128, 1024, 0.01
_POOLS = (1, 2, 2, 2)  # of ConvNet's layers
_EPS = 1e-12


@dataclass(frozen=True)
class Case:
    """A network and its images."""

    network: str
    width: int
    channels: int
    side: int

    @property
    def title(self) -> str:
        """What the table calls it."""
        return f"{self.network}({self.width}), {self.side}x{self.side}x{self.channels}"

    def configuration(self) -> RunConfig:
        """Return a run of it; its images are given."""
        return RunConfig(
            lr=_LR,
            model=PackageNetwork.checked({"name": self.network, "width": self.width}),
            data=DataConfig(name="digits"),
            training=TrainingConfig(iterations=10**6, batch_size=_BATCH),
            measurement=MeasurementConfig(count=1, window=2, gradients=2),
        )

    def images(self) -> Images:
        """Return normal deviates as images of 10 classes; their time is that of any others."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(_IMAGES, self.channels, self.side, self.side, generator=generator)
        labels = torch.randint(10, (_IMAGES,), generator=generator)
        return Images(images, labels, images[:1], labels[:1], num_classes=10)


# vmap and JAX are timed for the first three: beyond, they take minutes.
OTHERS_FOR = 3
CASES = (
    Case("ConvNet", 2, 1, 8),
    Case("ConvNet", 8, 1, 8),
    Case("ConvNet", 2, 1, 28),
    Case("ConvNet", 8, 1, 28),
    Case("ConvNet", 8, 3, 32),
    Case("ResNet18", 4, 3, 32),
)


@dataclass(frozen=True)
class StepResult:
    """Median seconds of a training step of one member, by contender; None for one that is not at hand."""

    case: Case
    instruction_set: str
    members: int
    lanes: float
    torch: float
    vmap: float | None
    jax: float | None
    bytes_of_member: int


@dataclass(frozen=True)
class KernelResult:
    """Median seconds of a kernel in the layers of a network, for all members of a vector.

    ``operations`` are those that count: products with pixels of the border are none.
    """

    case: Case
    instruction_set: str
    kernel: str
    seconds: float
    operations: float
    peak: float  # operations per second of a matrix product of torch's

    @property
    def share(self) -> float:
        """Share of the matrix product's speed."""
        return self.operations / self.seconds / self.peak


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Let the kernels use an instruction set for a while."""
    before = _core.chosen_instruction_set()
    _core.choose_instruction_set(name)
    try:
        yield
    finally:
        _core.choose_instruction_set(before)


def instruction_sets() -> list[str]:
    """Return that in use and, as most processors have it, AVX2 where it is another one."""
    chosen = _core.chosen_instruction_set()
    return [chosen, *(name for name in ("x86-64-v3",) if name < chosen and name in _core.instruction_sets())]


def measure_step(case: Case, rounds: int, others: bool, seconds_per_turn: float = 0.5) -> StepResult:
    """Time training steps by lanes, torch and, if so, others; on one thread, a member in each lane."""
    config, images, members = case.configuration(), case.images(), _core.lanes_of_members()
    with own_settings():
        trainer, alone = stacked_trainer(config, images, members), Trainer(config, images)
        contenders: dict[str, Callable[[], object]] = {"lanes": trainer.step, "torch": alone.step}
        if others:
            contenders["vmap"] = vmap_step(config, images, members)
            if find_spec("jax") is not None:
                contenders["jax"] = jax_step(config, images, members)
        seconds = median_seconds(contenders, rounds, seconds_per_turn)
    per_member = {name: value / (1 if name == "torch" else members) for name, value in seconds.items()}
    return StepResult(
        case=case,
        instruction_set=_core.chosen_instruction_set(),
        members=members,
        lanes=per_member["lanes"],
        torch=per_member["torch"],
        vmap=per_member.get("vmap"),
        jax=per_member.get("jax"),
        bytes_of_member=trainer.bytes // members,
    )


def program_of(case: Case) -> Program:
    """Return the layers of its network."""
    network = build_network(case.configuration(), case.images())
    return read_program(network, (case.channels, case.side, case.side))


def stacked_trainer(config: RunConfig, images: Images, members: int) -> LaneTrainer:
    """Return what trains so many members, which differ in their seeds."""
    return LaneTrainer([config.at(Member(_LR, seed)) for seed in range(members)], images)


def stacked_weights(config: RunConfig, images: Images, members: int) -> tuple[list[Tensor], FrozenHead]:
    """Return the initial weights of a ConvNet for all members, [members, O, C, 3, 3] each, and its head.

    They lie where the images do.
    """
    model = build_network(config, images).to(images.train_images.device)
    weights = [param.detach() for param in model.parameters() if param.requires_grad]
    head = next(module for module in model.modules() if isinstance(module, FrozenHead))
    return [one.expand(members, *one.shape).clone() for one in weights], head


def convnet_loss(weights: list[Tensor], head: FrozenHead, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a ConvNet of plain functions of torch."""
    for weight, pool in zip(weights, _POOLS, strict=True):
        x = functional.conv2d(x, weight, padding=1)
        x = functional.relu(functional.batch_norm(x, None, None, training=True, eps=_EPS))
        x = functional.max_pool2d(x, pool) if pool > 1 else x
    return functional.cross_entropy(head(x.amax((2, 3))), y)


def vmap_step(config: RunConfig, images: Images, members: int) -> Callable[[], list[Tensor]]:
    """Return a step of members by torch.func, as its documentation has it for ensembles of models."""
    weights, head = stacked_weights(config, images, members)
    device = images.train_images.device
    gradients = torch.func.vmap(torch.func.grad(convnet_loss), in_dims=(0, None, 0, 0))
    generator = torch.Generator(device).manual_seed(2)

    def step() -> list[Tensor]:
        batch = torch.randint(_IMAGES, (members, _BATCH), generator=generator, device=device)
        grads = gradients(weights, head, images.train_images[batch], images.train_labels[batch])
        squared = torch.zeros(members, device=device)
        for weight, grad in zip(weights, grads, strict=True):
            weight -= _LR * grad
            squared += weight.flatten(1).square().sum(dim=1)
        for weight in weights:
            weight /= squared.sqrt()[:, None, None, None, None]
        return weights

    return step


def jax_step(config: RunConfig, images: Images, members: int) -> Callable[[], Any]:
    """Return the same step by JAX's vmap and jit."""
    import jax
    from jax import lax, nn
    from jax import numpy as jnp

    start, head = stacked_weights(config, images, members)
    head_weights, head_bias = (jnp.asarray(one.detach().numpy()) for one in (head.weight, head.bias))
    x_all, y_all = (jnp.asarray(one.numpy()) for one in (images.train_images, images.train_labels))
    layout = ("NCHW", "OIHW", "NCHW")

    def loss(weights: list[Any], x: Any, y: Any) -> Any:
        for weight, pool in zip(weights, _POOLS, strict=True):
            x = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)
            mean, var = (of(x, axis=(0, 2, 3), keepdims=True) for of in (jnp.mean, jnp.var))
            x = nn.relu((x - mean) * lax.rsqrt(var + _EPS))
            if pool > 1:
                window = (1, 1, pool, pool)
                x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
        logits = jnp.max(x, axis=(2, 3)) @ head_weights.T + head_bias
        chosen = jnp.take_along_axis(nn.log_softmax(logits), y[:, None], axis=1)
        return -jnp.mean(chosen)

    def moved(weights: list[Any], batch: Any) -> list[Any]:
        grads = jax.vmap(jax.grad(loss))(weights, x_all[batch], y_all[batch])
        new = [weight - _LR * grad for weight, grad in zip(weights, grads, strict=True)]
        squared = sum(jnp.sum(one.reshape(members, -1) ** 2, axis=1) for one in new)
        return [one / jnp.sqrt(squared)[:, None, None, None, None] for one in new]

    state, compiled = [jnp.asarray(one.numpy()) for one in start], jax.jit(moved)
    random = np.random.default_rng(2)

    def step() -> Any:
        state[:] = compiled(state, random.integers(_IMAGES, size=(members, _BATCH)))
        return jax.block_until_ready(state)

    return step


def measure_kernels(case: Case, rounds: int, seconds_per_turn: float = 0.2) -> list[KernelResult]:
    """Time the kernels of a network's layers, each over all layers, beside a matrix product of torch's."""
    with own_settings():
        calls, operations = _kernel_calls(case)
        left, right = torch.randn(768, 768), torch.randn(768, 768)
        seconds = median_seconds({**calls, "product": lambda: left @ right}, rounds, seconds_per_turn)
    peak = 2 * 768**3 / seconds.pop("product")
    return [
        KernelResult(case, _core.chosen_instruction_set(), name, value, operations[name], peak)
        for name, value in seconds.items()
    ]


def _kernel_calls(case: Case) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    lanes = _core.lanes_of_members()
    program = program_of(case)
    calls: dict[str, list[Callable[[], object]]] = {}
    operations: dict[str, float] = {}

    def add(name: str, call: Callable[[], object], count: float) -> None:
        calls.setdefault(name, []).append(call)
        operations[name] = operations.get(name, 0.0) + lanes * count

    def values(number: int) -> Tensor:
        channels, height, width = program.shapes[number]
        return aligned_empty(_BATCH, height, width, channels, lanes).normal_()

    for number, layer in enumerate(program.layers, start=1):
        if isinstance(layer, Convolution):
            x, y = values(layer.source), values(number)
            outputs, channels, kernel, _ = program.weights[layer.weights]
            w, dw = (aligned_empty(kernel, kernel, channels, outputs, lanes).zero_() for _ in range(2))
            count = _operations(program, layer)
            how = (layer.stride, layer.padding)
            add("convolution", partial(convolve, x, w, *how, y), count)
            add("to weights", partial(add_weight_gradients, x, y, *how, dw), count)
            if layer.source > 0:
                add("to images", partial(convolve_back, y, w, *how, x), count)
        elif isinstance(layer, BatchNorm):
            x, y, dy = values(layer.source), values(number), values(number)
            constants, pool = aligned_empty(4 * x.shape[3] * lanes).normal_(), (layer.pool, layer.rectify)
            sums = aligned_empty(2 * x.shape[3] * lanes, dtype=torch.float64).zero_()
            count, count_y = (float(math.prod(one.shape[:4])) for one in (x, y))
            add("normalization", partial(add_moments, x, x, sums), 4 * count)
            add("normalization", partial(normalize, x, *pool, constants, y), 3 * count)
            add("its gradients", partial(add_gradient_moments, y, layer.rectify, dy, sums), 4 * count_y)
            back = partial(normalize_back, x, *pool, constants, dy, torch.empty_like(x))
            add("its gradients", back, 7 * count)
    return {name: _one_after_the_other(several) for name, several in calls.items()}, operations


def _one_after_the_other(calls: list[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [call() for call in calls]


def step_operations(program: Program) -> float:
    """Return the products and sums of a member's convolutions, forward and back, in a step."""
    convolutions = [layer for layer in program.layers if isinstance(layer, Convolution)]
    return sum((3 if layer.source > 0 else 2) * _operations(program, layer) for layer in convolutions)


def _operations(program: Program, layer: Convolution) -> float:
    outputs, channels, kernel, _ = program.weights[layer.weights]
    taps = _taps(program.shapes[layer.source][1:], kernel, layer.stride, layer.padding)
    return 2.0 * _BATCH * taps * channels * outputs


def _taps(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> float:
    """Return how many pixels of an image all outputs of a convolution take, the border's left out."""
    ones, weight = torch.ones(1, 1, *shape), torch.ones(1, 1, kernel, kernel)
    return float(functional.conv2d(ones, weight, stride=stride, padding=padding).sum())


def step_table(results: list[StepResult]) -> str:
    """Return the times of steps as Markdown."""
    lines = [
        "| network, images | instruction set | members | torch (ms) | vmap (ms) | JAX (ms) | lanes (ms) "
        "| x torch | MB a member |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        times = " | ".join(_milliseconds(value) for value in (one.torch, one.vmap, one.jax, one.lanes))
        lines.append(
            f"| {one.case.title} | {one.instruction_set} | {one.members} | {times} "
            f"| {one.torch / one.lanes:.2f} | {one.bytes_of_member / 1e6:.1f} |"
        )
    return "\n".join(lines)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3g}"


def kernel_table(results: list[KernelResult]) -> str:
    """Return the speeds of kernels as Markdown."""
    lines = [
        "| network, images | instruction set | kernel | ms | Gflop/s | of a matrix product |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        lines.append(
            f"| {one.case.title} | {one.instruction_set} | {one.kernel} | {1e3 * one.seconds:.3g} "
            f"| {one.operations / one.seconds / 1e9:.0f} | {one.share:.0%} |"
        )
    return "\n".join(lines)
