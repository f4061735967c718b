"""What a run costs, counted before it begins: operations, memory, disk."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pythermo._parameters import count
from pythermo.config.schedule import (
    kept_iterations,
    measured_iterations,
    rescaled_iterations,
    window_is_full,
)
from pythermo.config.schema import MeasurementConfig, TrainingConfig
from pythermo.estimators.entropy import default_ks
from pythermo.models.layers import trained_parameters
from pythermo.training.measure import START_GRADIENTS, gradients_are_kept
from pythermo.training.quantities import measured_numbers

_FLOAT32, _FLOAT64 = 4, 8

# A backward pass takes the work of two forward passes: gradients of the inputs and of the weights.
_GRADIENT = 3


def multiply_adds(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Count the multiply-adds of the convolutions and matrix products in a forward pass.

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
    was_training = model.training
    zeros = torch.zeros(1, *input_shape, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(zeros)
    finally:
        model.train(was_training)
    operations: int = counter.get_total_flops()
    return operations // 2


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
        Floating-point operations of the training steps and, of all measurements, and of a predicted norm,
        those of the gradients,
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
    """Count the images that go through a network of so many weights at one measurement.

    The training images go forward twice: at the weights, and at the window's mean.
    """
    in_gradients = measurement.gradients * batch_size
    if measurement.full_gradient == "evaluation":  # which comes with the training loss
        return MeasurementImages(in_gradients + train_images, train_images + test_images)
    if not gradients_are_kept(measurement, weights):
        in_gradients *= 2  # gone through twice: for the mean, and for distances from it
    return MeasurementImages(in_gradients, 2 * train_images + test_images)


def curvature_images(measurement: MeasurementConfig, batch_size: int, train_images: int) -> int:
    """Count the images that go forward and back for the curvature where a measurement is stationary."""
    products = measurement.hessian_probes + measurement.power_iterations
    along_gradients = 3 * measurement.gradients * batch_size if measurement.power_iterations else 0
    return (1 + 2 * products) * train_images + along_gradients if products else 0


def start_gradients(training: TrainingConfig) -> int:
    """Count the minibatch gradients by which a run predicts its norm."""
    if training.start != "predicted":
        return 0
    return START_GRADIENTS * len(rescaled_iterations(training.iterations))


def window_bytes(measurement: MeasurementConfig, weights: int) -> int:
    """Return the memory of the entropy's window of float32 iterates."""
    return measurement.window * weights * _FLOAT32


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
    measured = measured_iterations(training.iterations, measurement.count, measurement.late)
    once = measurement_images(measurement, training.batch_size, weights, train_images, test_images)
    entropies = sum(window_is_full(one, measurement.window, measurement.stride) for one in measured)
    pairs = measurement.window * (measurement.window - 1) // 2
    stationary = min(measurement.stationary, len(measured))
    gradients = len(measured) * once.forward_and_back + stationary * curvature_images(
        measurement, training.batch_size, train_images
    )
    gradients += start_gradients(training) * training.batch_size
    numbers = 1 + measured_numbers(len(default_ks(measurement.window)))  # and the iteration
    return Cost(
        weights=weights,
        passes=training.iterations + gradients / training.batch_size,
        training=training.iterations * training.batch_size * _GRADIENT * forward,
        gradients=gradients * _GRADIENT * forward,
        entropies=entropies * pairs * 3.0 * weights,
        evaluations=len(measured) * once.forward * forward,
        window_bytes=window_bytes(measurement, weights),
        measurements_bytes=len(measured) * numbers * _FLOAT64,
        snapshots_bytes=len(kept_iterations(training.iterations, measurement.snapshots)) * weights * _FLOAT32,
    )
