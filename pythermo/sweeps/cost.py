"""What a run costs, counted before it begins: operations, memory, disk.

``python -m pythermo.sweeps.cost`` prints the table of docs/scaling.md: the paper's sweeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pythermo import models
from pythermo._parameters import count
from pythermo.config.preset import Preset
from pythermo.config.schedule import kept_iterations, measured_iterations
from pythermo.config.schema import MeasurementConfig, TrainingConfig
from pythermo.estimators.entropy import default_ks
from pythermo.models.layers import trained_parameters
from pythermo.training.measure import gradients_are_kept
from pythermo.training.quantities import measured_numbers

H100_FLOPS, H100_SHARE = 67e12, 0.3  # float32, and the share of it that we assume
PASS_SECONDS = 5e-4  # no forward and backward pass is taken for faster than its launches

_FLOAT32, _FLOAT64 = 4, 8

# A backward pass takes the work of two forward passes: gradients of the inputs and of the weights.
_GRADIENT = 3


def multiply_adds(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Count the multiply-adds of the convolutions and linear layers in a forward pass.

    Parameters
    ----------
    model : nn.Module
        Any network; it is run once on zeros, in evaluation mode.
    input_shape : tuple of int
        Shape of one input, without the batch: (channels, height, width).

    Returns
    -------
    int
        Multiply-adds per input; a convolution counts its padding as if it were multiplied.
    """
    total = 0

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape, device=layers[0].weight.device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return total


@dataclass(frozen=True)
class Cost:
    """What one run at one learning rate costs.

    Attributes
    ----------
    weights : int
        Number D of trained weights.
    passes : float
        Forward and backward passes of a batch, for steps and for measured gradients.
    training, gradients, entropies, evaluations : float
        Floating-point operations of the training steps and, of all measurements, those of the gradients,
        the entropies, and the losses and accuracies.
    window_bytes : int
        Memory of the entropy's window of iterates; a checkpoint is as large, and some megabytes more.
    measurements_bytes : int
        Size of the numbers that are measured; their names and units add some 100 kB on disk.
    snapshots_bytes : int
        Size of the weights that are kept on disk.
    """

    weights: int
    passes: float
    training: float
    gradients: float
    entropies: float
    evaluations: float
    window_bytes: int
    measurements_bytes: int
    snapshots_bytes: int

    @property
    def operations(self) -> float:
        """All floating-point operations."""
        return self.training + self.gradients + self.entropies + self.evaluations


@dataclass(frozen=True)
class MeasurementImages:
    """How many images one measurement takes forward and back, and how many forward alone."""

    forward_and_back: int
    forward: int

    @property
    def passes(self) -> float:
        """All of them in units of an image taken forward and back."""
        return self.forward_and_back + self.forward / _GRADIENT


def measurement_images(
    measurement: MeasurementConfig, batch_size: int, weights: int, train_images: int, test_images: int
) -> MeasurementImages:
    """Count the images that go through a network of so many weights at one measurement."""
    in_gradients = measurement.gradients * batch_size
    if measurement.full_gradient == "evaluation":  # which comes with the training loss
        return MeasurementImages(in_gradients + train_images, test_images)
    if not gradients_are_kept(measurement, weights):
        in_gradients *= 2  # gone through twice: for the mean, and for distances from it
    return MeasurementImages(in_gradients, train_images + test_images)


def cost_of_run(
    model: nn.Module,
    input_shape: tuple[int, ...],
    train_images: int,
    test_images: int,
    training: TrainingConfig,
    measurement: MeasurementConfig,
) -> Cost:
    """Count what a run costs.

    Parameters
    ----------
    model : nn.Module
        The network.
    input_shape : tuple of int
        Shape of an image: (channels, height, width).
    train_images, test_images : int
        Number of images.
    training, measurement : TrainingConfig, MeasurementConfig
        As in the run's configuration.

    Notes
    -----
    A multiply-add counts as two operations, a gradient as three forward passes, an entropy as three
    operations for each coordinate of each pair of iterates. Normalization, activation, pooling, the projected
    step and sums over gradients are left out: they move memory and compute little.
    """
    weights = count(trained_parameters(model))
    forward = 2.0 * multiply_adds(model, input_shape)
    measured = measured_iterations(training.iterations, measurement.count)
    once = measurement_images(measurement, training.batch_size, weights, train_images, test_images)
    entropies = int((measured >= measurement.window - 1).sum())
    pairs = measurement.window * (measurement.window - 1) // 2
    gradients = len(measured) * once.forward_and_back
    return Cost(
        weights=weights,
        passes=training.iterations + gradients / training.batch_size,
        training=training.iterations * training.batch_size * _GRADIENT * forward,
        gradients=gradients * _GRADIENT * forward,
        entropies=entropies * pairs * 3.0 * weights,
        evaluations=len(measured) * once.forward * forward,
        window_bytes=measurement.window * weights * _FLOAT32,
        measurements_bytes=len(measured) * measured_numbers(len(default_ks(measurement.window))) * _FLOAT64,
        snapshots_bytes=len(kept_iterations(training.iterations, measurement.snapshots)) * weights * _FLOAT32,
    )


# The eight sweeps of arXiv 2505.23489: presets, and their classes.
PAPER = {
    f"{network}-{data}-{setup}": classes
    for network in ("convnet", "resnet18")
    for data, classes in (("cifar10", 10), ("cifar100", 100))
    for setup in ("up", "op")
}


def cost_of_the_paper_s(name: str) -> Cost:
    """Count what a run of one of the paper's presets costs."""
    run = Preset.load(name).run
    network: Callable[..., nn.Module] = getattr(models, run.model.name)
    model = network(run.model.width, num_classes=PAPER[name])
    return cost_of_run(model, (3, 32, 32), 50_000, 10_000, run.training, run.measurement)


def gpu_hours(cost: Cost) -> float:
    """Estimate the hours of a run on an H100, at `H100_SHARE` and no less than `PASS_SECONDS` a pass."""
    return max(cost.operations / (H100_SHARE * H100_FLOPS), cost.passes * PASS_SECONDS) / 3600


def table() -> str:
    """Return the Markdown table of the paper's sweeps."""
    lines = [
        "| sweep | D | runs | iterations | GFLOP a step | PFLOP a run | of it measuring "
        "| hours a run (estimate) | GPU-hours (estimate) | window, checkpoint | weights kept, all runs |",
        "|" + "---|" * 11,
    ]
    all_runs, all_hours, all_kept = 0, 0.0, 0
    for name in PAPER:
        preset, cost = Preset.load(name), cost_of_the_paper_s(name)
        runs, iterations, hours = len(preset.learning_rates), preset.run.training.iterations, gpu_hours(cost)
        all_runs += runs
        all_hours += runs * hours
        all_kept += runs * cost.snapshots_bytes
        cells = [
            name,
            f"{cost.weights:,}".replace(",", " "),
            f"{runs}",
            f"{runs} x {iterations / 1e6:.1f} M",
            f"{cost.training / iterations / 1e9:.1f}",
            f"{cost.operations / 1e15:.1f}",
            f"{1 - cost.training / cost.operations:.0%}",
            f"{hours:.1f}",
            f"{runs * hours:.0f}",
            f"{cost.window_bytes / 1e9:.1f} GB",
            f"{runs * cost.snapshots_bytes / 1e9:.2f} GB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| all | | {all_runs} | | | | | | {all_hours:.0f} | | {all_kept / 1e9:.1f} GB |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
