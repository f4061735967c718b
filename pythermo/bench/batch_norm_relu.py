"""BatchNorm, pooling and ReLU of a network's layers, forward and backward, against torch's own three."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pythermo import ops
from pythermo.bench.timing import median_seconds
from pythermo.ops.batch_norm_relu import batch_norm_relu_by_torch

EPS = 1e-12


@dataclass(frozen=True)
class Layer:
    """Images [images, channels, side, side] that a layer normalizes and pools."""

    images: int
    channels: int
    side: int
    pool: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the images."""
        return self.images, self.channels, self.side, self.side

    @property
    def bytes(self) -> int:
        """Size of the images in float32."""
        return 4 * math.prod(self.shape)


# All of ConvNet(8), two of ConvNet(64), and one of ConvNet(2) on 28x28 pixels.
LAYERS = (
    Layer(128, 8, 32, 1),
    Layer(128, 16, 32, 2),
    Layer(128, 32, 16, 2),
    Layer(128, 64, 8, 2),
    Layer(128, 64, 32, 1),
    Layer(128, 512, 8, 2),
    Layer(128, 2, 28, 1),
)


@dataclass(frozen=True)
class LayerResult:
    """Median seconds of a layer's forward and backward pass, by contender.

    ``published`` is torch in its default layout, pooling after ReLU; ``channels_last`` torch in the layout of
    pythermo's networks, pooling before ReLU; ``copy`` copies the images.
    """

    layer: Layer
    threads: int
    published: float
    channels_last: float
    pythermo: float
    copy: float

    @property
    def bandwidth(self) -> float:
        """Bytes per second that the kernel reads and writes.

        The images three times and their gradient once, the outputs twice and their gradient twice.
        """
        return (4 + 4 / self.layer.pool**2) * self.layer.bytes / self.pythermo

    @property
    def copy_bandwidth(self) -> float:
        """Bytes per second, read and written, of the copy."""
        return 2 * self.layer.bytes / self.copy


def published(x: Tensor, pool: int) -> Tensor:
    """Return the layer's outputs in the order of the published code."""
    x = functional.relu(functional.batch_norm(x, None, None, training=True, eps=EPS))
    return functional.max_pool2d(x, pool) if pool > 1 else x


def both_passes(
    layer: Callable[[Tensor, int], Tensor], x: Tensor, pool: int, layout: torch.memory_format
) -> Callable[[], Tensor]:
    """Return a function that computes outputs and then the gradient of ``x``, all in one layout."""
    x = x.detach().clone(memory_format=layout).requires_grad_()
    grad = torch.ones_like(layer(x, pool).detach()).contiguous(memory_format=layout)
    return lambda: torch.autograd.grad(layer(x, pool), x, grad)[0]


def measure(layer: Layer, rounds: int) -> LayerResult:
    """Measure all contenders on normal deviates, with as many threads as torch has."""
    x = torch.randn(layer.shape, generator=torch.Generator().manual_seed(1))
    target, last = torch.empty_like(x), torch.channels_last
    seconds = median_seconds(
        {
            "published": both_passes(published, x, layer.pool, torch.contiguous_format),
            "channels_last": both_passes(partial(batch_norm_relu_by_torch, eps=EPS), x, layer.pool, last),
            "pythermo": both_passes(partial(ops.batch_norm_relu, eps=EPS), x, layer.pool, last),
            "copy": lambda: target.copy_(x),
        },
        rounds,
        0.05,
    )
    return LayerResult(layer, torch.get_num_threads(), **seconds)


def table(results: list[LayerResult]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| images | pooling | threads | published (ms) | torch, channels last | pythermo "
        "| x published | x channels last | GB/s | of copy |",
        "|" + "---|" * 10,
    ]
    for r in results:
        times = " | ".join(f"{1e3 * seconds:.3f}" for seconds in (r.published, r.channels_last, r.pythermo))
        lines.append(
            f"| {list(r.layer.shape)} | {r.layer.pool} | {r.threads} | {times} "
            f"| {r.published / r.pythermo:.1f} | {r.channels_last / r.pythermo:.1f} "
            f"| {r.bandwidth / 1e9:.0f} | {100 * r.bandwidth / r.copy_bandwidth:.0f} % |"
        )
    return "\n".join(lines)
