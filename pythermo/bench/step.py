"""The fused step against the published way of doing it and against plain torch on one flat buffer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pythermo import models, ops
from pythermo.bench.timing import median_seconds
from pythermo.optim import ProjectedSGD

LR = 1e-3

# Weights and gradient are read in both passes, the weights are written in the second.
BYTES_PER_WEIGHT = 4 * 5

NETWORKS = {
    "ConvNet(8)": lambda: models.ConvNet(8),
    "ConvNet(64)": lambda: models.ConvNet(64),
    "ResNet18(64)": lambda: models.ResNet18(64),
}


@dataclass(frozen=True)
class StepResult:
    """Median times of one step in seconds, by contender, for the parameters of one network."""

    network: str
    weights: int
    threads: int
    published: float
    optimizer: float
    flat_norm: float
    flat_dot: float
    fused: float
    copy: float

    @property
    def against_published(self) -> float:
        """How many times faster the fused step is than the published way."""
        return self.published / self.fused

    @property
    def against_flat(self) -> float:
        """How many times faster the fused step is than the better of the flat ways."""
        return min(self.flat_norm, self.flat_dot) / self.fused

    @property
    def bandwidth(self) -> float:
        """Bytes per second that the fused step moves."""
        return BYTES_PER_WEIGHT * self.weights / self.fused

    @property
    def copy_bandwidth(self) -> float:
        """Bytes per second, read and written, of a copy between buffers as large as the step's two."""
        return 8 * self.weights / self.copy


def parameters(network: str) -> list[nn.Parameter]:
    """Return the trained parameters of a network at its initial point, each with a random gradient."""
    params = models.trained_parameters(models.initialise_(NETWORKS[network]()))
    for param in params:
        param.grad = torch.randn_like(param)
    return params


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
    """Step on one flat buffer by the plainest torch calls."""
    weights.add_(grad, alpha=-LR)
    weights.div_(torch.linalg.vector_norm(weights))


@torch.no_grad()
def flat_dot(weights: Tensor, grad: Tensor) -> None:
    """Step on one flat buffer by the fastest torch calls that we know."""
    weights.add_(grad, alpha=-LR)
    weights.mul_(torch.dot(weights, weights).rsqrt())


def measure(network: str, rounds: int, seconds_per_turn: float = 0.02) -> StepResult:
    """Measure all contenders on the parameters of one network."""
    given, ours = parameters(network), parameters(network)
    optimizer = ProjectedSGD(ours, lr=LR)
    flat_weights = torch.cat([param.detach().flatten() for param in given])
    grad = torch.randn_like(flat_weights)
    # Each has buffers of its own, allocated in the same way: numpy asks for huge pages.
    buffers = [torch.from_numpy(np.array(flat_weights.numpy())) for _ in range(3)]
    grads = [torch.from_numpy(np.array(grad.numpy())) for _ in range(3)]
    target = torch.from_numpy(np.empty_like(flat_weights.numpy()))
    seconds = median_seconds(
        {
            "published": Published(given),
            "optimizer": optimizer.step,
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
        "| network | D | threads | published (µs) | flat torch, norm | flat torch, dot | ProjectedSGD | "
        "fused step | x published | x best flat | bytes/weight | GB/s | of copy |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        times = [r.published, r.flat_norm, r.flat_dot, r.optimizer, r.fused]
        lines.append(
            f"| {r.network} | {r.weights} | {r.threads} | "
            + " | ".join(f"{1e6 * seconds:.1f}" for seconds in times)
            + f" | {r.against_published:.1f} | {r.against_flat:.2f} | {BYTES_PER_WEIGHT}"
            f" | {r.bandwidth / 1e9:.0f} | {100 * r.bandwidth / r.copy_bandwidth:.0f} % |"
        )
    return "\n".join(lines)
