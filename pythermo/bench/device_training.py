"""A training step on a device, and its convolutions forward and backward in both memory layouts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d

from pythermo.bench.device_clock import DeviceClock
from pythermo.bench.training import configuration, random_images
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

BATCH = 128
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of ConvNet over a batch of square images."""

    inputs: int
    outputs: int
    side: int

    @property
    def operations(self) -> float:
        """Floating-point operations of the outputs and both gradients."""
        return 3 * 2.0 * BATCH * self.side**2 * 9 * self.inputs * self.outputs

    def __str__(self) -> str:
        return f"{self.inputs} to {self.outputs} channels, {self.side} x {self.side} pixels"


def convolutions(width: int) -> tuple[Convolution, ...]:
    """Return the convolutions of ConvNet on 32x32 pixels."""
    c = width
    return (
        Convolution(3, c, 32),
        Convolution(c, 2 * c, 32),
        Convolution(2 * c, 4 * c, 16),
        Convolution(4 * c, 8 * c, 8),
    )


def training_step_seconds(clock: DeviceClock, width: int, graph: bool, images: int, steps: int) -> float:
    """Return the seconds of a training step of ConvNet with a batch of 128, all of it on the device."""
    config = configuration(10 * steps, 2, 2, window=10, width=width)
    config = config.changed(**{"training.device": str(clock.device), "training.cuda_graph": graph})
    with own_settings(threads=None):
        return seconds_of_each(clock, Trainer(config, random_images(images, BATCH)).step, steps)


def seconds_of_each(clock: DeviceClock, step: Callable[[], object], steps: int) -> float:
    """Return the seconds of one step of several, after some that warm up, until the device has done them."""

    def make(count: int) -> None:
        for _ in range(count):
            step()

    make(max(steps // 5, 3))  # a graph is captured by then
    return clock.of_waiting(lambda: make(steps)) / steps


def convolution_seconds(clock: DeviceClock, width: int) -> Iterator[tuple[Convolution, dict[str, float]]]:
    """Measure each convolution of ConvNet, by layout, without TF32 and by reproducible algorithms."""
    for layer in convolutions(width):
        seconds = {}
        for name, layout in LAYOUTS.items():
            with own_settings(threads=None):
                seconds[name] = clock.of_one([_both_passes(clock, layer, layout)], at_least=10)
        yield layer, seconds


def _both_passes(clock: DeviceClock, layer: Convolution, layout: torch.memory_format) -> Callable[[], object]:
    def normal(*shape: int) -> torch.Tensor:
        return clock.normal(*shape).contiguous(memory_format=layout)

    x = normal(BATCH, layer.inputs, layer.side, layer.side).requires_grad_()
    weights = normal(layer.outputs, layer.inputs, 3, 3).requires_grad_()
    grad = normal(BATCH, layer.outputs, layer.side, layer.side)
    return lambda: torch.autograd.grad(conv2d(x, weights, padding=1), (x, weights), grad)
