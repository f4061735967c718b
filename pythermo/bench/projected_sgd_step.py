"""The step against the published way of doing it, and against plain torch on one flat vector."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pythermo import models, ops
from pythermo.bench.timing import median_seconds
from pythermo.optim import ProjectedSGD

# So small that the weights stay where the gradient was taken, however often the step is repeated: there the
# gradient of a scale-invariant loss is tangent to the sphere, as it is in each step of training.
LR = 1e-12

# Weights and gradient are read twice and the weights are written once; where they do not fit the caches
# (csrc/cpu/projected_sgd_step.cpp, predicted_norm_size) the weights are read but once.
BYTES_PER_WEIGHT, BYTES_PER_WEIGHT_BEYOND_CACHES, BEYOND_CACHES = 4 * 5, 4 * 4, 2**22

NETWORKS = {
    "ConvNet(8)": lambda: models.ConvNet(8),
    "ConvNet(64)": lambda: models.ConvNet(64),
    "ResNet18(64)": lambda: models.ResNet18(64),
}


@dataclass(frozen=True)
class StepResult:
    """Median times of one step in seconds, by contender, for the parameters of one network.

    ``new_gradients`` is `ProjectedSGD` with gradients that are new tensors in each step, as ``zero_grad()``
    and ``backward()`` make them, and includes their assignment; ``kept_gradients`` the same with gradients
    that stay, as after ``zero_grad(set_to_none=False)``; ``fused`` is the step on flat vectors.
    """

    network: str
    weights: int
    threads: int
    new_gradients: float
    kept_gradients: float
    published: float
    flat_norm: float
    flat_dot: float
    fused: float
    copy: float

    @property
    def against_published(self) -> float:
        """How many times faster the optimizer is with new gradients than the published way."""
        return self.published / self.new_gradients

    @property
    def against_flat(self) -> float:
        """How many times faster the fused step is than the better of the flat ways."""
        return min(self.flat_norm, self.flat_dot) / self.fused

    @property
    def bytes_per_weight(self) -> int:
        """Bytes that the fused step reads and writes for each weight."""
        return BYTES_PER_WEIGHT_BEYOND_CACHES if self.weights >= BEYOND_CACHES else BYTES_PER_WEIGHT

    @property
    def bandwidth(self) -> float:
        """Bytes per second that the fused step moves."""
        return self.bytes_per_weight * self.weights / self.fused

    @property
    def copy_bandwidth(self) -> float:
        """Bytes per second, read and written, of a copy between buffers as large as the step's two."""
        return 8 * self.weights / self.copy


def at_initial_point(network: str) -> nn.Module:
    """Return a network at its initial point."""
    return models.initialize_(NETWORKS[network]())


def backward(model: nn.Module) -> None:
    """Add the gradient of one batch to the parameters' own."""
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cross_entropy(model(images), torch.arange(16) % 10).backward()


def parameters(network: str) -> list[nn.Parameter]:
    """Return the trained parameters of a network at its initial point, each with its gradient."""
    model = at_initial_point(network)
    backward(model)
    return models.trained_parameters(model)


class NewGradients:
    """A step of `ProjectedSGD` with gradients that are other tensors than in the step before."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params = params
        self.optimizer = ProjectedSGD(params, lr=LR)
        # Of the same memory: new gradients are as near in the caches as kept ones, having just been written.
        given = [[param.grad.detach() for param in params if param.grad is not None] for _ in range(2)]
        self.grads = itertools.cycle(given)

    def __call__(self) -> None:
        """Make one step."""
        for param, grad in zip(self.params, next(self.grads), strict=True):
            param.grad = grad
        self.optimizer.step()


class Published:
    """torch.optim.SGD, then the squared norm of each tensor read back, then a scaling of each tensor."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.params = params
        self.optimizer = torch.optim.SGD(params, lr=LR)

    def __call__(self) -> None:
        """Make one step."""
        self.optimizer.step()
        norm = np.sqrt(sum((param**2).sum().item() for param in self.params))
        for param in self.params:
            param.data *= 1.0 / norm


@torch.no_grad()
def flat_norm(weights: Tensor, grad: Tensor) -> None:
    """Step on one flat vector by the plainest torch calls."""
    weights.add_(grad, alpha=-LR)
    weights.div_(torch.linalg.vector_norm(weights))


@torch.no_grad()
def flat_dot(weights: Tensor, grad: Tensor) -> None:
    """Step on one flat vector by the fastest torch calls that we know."""
    weights.add_(grad, alpha=-LR)
    weights.mul_(torch.dot(weights, weights).rsqrt())


def measure(network: str, rounds: int, seconds_per_turn: float = 0.02) -> StepResult:
    """Measure all contenders on the parameters of one network."""
    given = parameters(network)
    flat_weights = torch.cat([param.detach().flatten() for param in given])
    grad = torch.cat([param.grad.flatten() for param in given if param.grad is not None])
    # Each has buffers of its own, allocated in the same way: numpy asks for huge pages.
    buffers = [torch.from_numpy(np.array(flat_weights.numpy())) for _ in range(3)]
    grads = [torch.from_numpy(np.array(grad.numpy())) for _ in range(3)]
    target = torch.from_numpy(np.empty_like(flat_weights.numpy()))
    seconds = median_seconds(
        {
            "new_gradients": NewGradients(parameters(network)),
            "kept_gradients": ProjectedSGD(parameters(network), lr=LR).step,
            "published": Published(given),
            "flat_norm": lambda: flat_norm(buffers[0], grads[0]),
            "flat_dot": lambda: flat_dot(buffers[1], grads[1]),
            "fused": lambda: ops.projected_sgd_step_(buffers[2], grads[2], LR),
            "copy": lambda: target.copy_(flat_weights),
        },
        rounds,
        seconds_per_turn,
    )
    return StepResult(network, len(flat_weights), torch.get_num_threads(), **seconds)


def table(results: list[StepResult]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| network | D | threads | new gradients (µs) | kept gradients | published | x published | "
        "flat torch, norm | flat torch, dot | fused step | x best flat | "
        "bytes/weight | GB/s | of copy |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        optimizer = [r.new_gradients, r.kept_gradients, r.published]
        flat = [r.flat_norm, r.flat_dot, r.fused]
        lines.append(
            f"| {r.network} | {r.weights} | {r.threads} | {_microseconds(optimizer)}"
            f" | {r.against_published:.1f} | {_microseconds(flat)}"
            f" | {r.against_flat:.2f} | {r.bytes_per_weight}"
            f" | {r.bandwidth / 1e9:.0f} | {100 * r.bandwidth / r.copy_bandwidth:.0f} % |"
        )
    return "\n".join(lines)


def _microseconds(times: list[float]) -> str:
    return " | ".join(f"{1e6 * seconds:.1f}" for seconds in times)
