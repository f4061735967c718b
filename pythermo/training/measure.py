"""What is measured of a network at one point of its run; nothing of the run is changed by it."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pythermo._parameters import count, flatten, write_
from pythermo.config.schema import MeasurementConfig
from pythermo.data import Images
from pythermo.estimators.curvature import (
    Curvature,
    Gradient,
    batch_sharpness,
    hessian_trace,
    largest_curvature,
)
from pythermo.estimators.gradient_noise import GradientNoise, gradient_noise, gradient_noise_about_mean
from pythermo.estimators.trajectory_entropy import EntropyEstimate
from pythermo.models.invariance import buffers_restored
from pythermo.models.losses import Loss
from pythermo.training.batches import Draw, Stream, iid_batches
from pythermo.training.protocols import Conditions
from pythermo.training.step_moments import StepMoments

KEPT_BYTES = 2**30

# Minibatch gradients from which a norm is predicted.
START_GRADIENTS = 200


def gradients_are_kept(settings: MeasurementConfig, weights: int) -> bool:
    """Whether the minibatch gradients of so many float32 weights are kept for the time of a measurement."""
    return 4 * settings.gradients * weights <= KEPT_BYTES


@dataclass(frozen=True)
class Motion:
    """Where a run is, and how it has moved since the measurement before.

    ``radius`` is the norm of the weights, ``log_radius`` the mean of its logarithm over the window's
    iterates, and ``window`` the entropies of these.
    """

    conditions: Conditions
    radius: float
    log_radius: float
    window: EntropyEstimate
    steps: StepMoments


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and share of right answers over a whole data set."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Measured:
    """All that is measured of one iterate; `pythermo.training.quantities` takes each quantity from it."""

    train: Evaluation
    test: Evaluation
    noise: GradientNoise
    quench_loss: float
    curvature: Curvature
    motion: "Motion"


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, images: Tensor, labels: Tensor, batch: int) -> Evaluation:
    """Evaluate in fixed batches, with the batches' own statistics where the model normalizes."""
    total = correct = 0.0
    with _as_in_training(model):
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            logits = model(x)
            total += float(loss(logits, y, reduction="sum"))
            correct += float((logits.argmax(dim=1) == y).sum())
    return Evaluation(total / len(labels), correct / len(labels))


@dataclass(frozen=True)
class GradientMeter:
    """Measures the gradient noise of a network on its training images.

    The noise about the mean of the minibatch gradients needs them twice. For the time of a measurement they
    are kept, on the device, where they take 1 GiB (`KEPT_BYTES`) or less, as 1000 gradients of 268 435
    float32 weights do; beyond that they are computed twice. Both give the same bits.
    """

    model: nn.Module
    loss: Loss
    params: list[nn.Parameter]
    data: Images
    batch_size: int
    settings: MeasurementConfig
    training_seed: int

    def evaluate(self) -> tuple[Evaluation, Tensor | None]:
        """Evaluate the training images and return, where it is that of evaluation batches, the full gradient.

        Loss and gradient [D] come from the same forward pass.
        """
        if self.settings.full_gradient == "mean":
            return self._evaluate_without_gradient(), None
        return self._evaluate_with_gradient()

    def _evaluate_without_gradient(self) -> Evaluation:
        images, labels = self.data.train_images, self.data.train_labels
        return evaluate(self.model, self.loss, images, labels, self.settings.evaluation_batch)

    def _evaluate_with_gradient(self) -> tuple[Evaluation, Tensor]:
        """Evaluate the training images and return the full gradient [D] in float64 as well."""
        images, labels = self.data.train_images, self.data.train_labels
        batch = self.settings.evaluation_batch
        total = images.new_zeros(count(self.params), dtype=torch.float64)
        summed = correct = 0.0
        with _as_in_training(self.model):
            for x, y in zip(images.split(batch), labels.split(batch), strict=True):
                logits = self.model(x)
                total += len(y) * self._flat_gradient(self.loss(logits, y))
                summed += float(self.loss(logits.detach(), y, reduction="sum"))
                correct += float((logits.argmax(dim=1) == y).sum())
        return Evaluation(summed / len(labels), correct / len(labels)), total / len(labels)

    def measure(self, iteration: int, motion: Motion, mean: Tensor | None, curvature: Curvature) -> Measured:
        """Measure the current weights, beside their motion so far.

        ``mean`` [D] is that of the window's iterates, on their sphere; None while it is not full.
        """
        train, full_gradient = self.evaluate()
        images, labels = self.data.test_images, self.data.test_labels
        test = evaluate(self.model, self.loss, images, labels, self.settings.evaluation_batch)
        quench = math.nan if mean is None else self._loss_at(mean)
        return Measured(train, test, self.noise_at(iteration, full_gradient), quench, curvature, motion)

    def _loss_at(self, weights: Tensor) -> float:
        with self._at(weights):
            return self._evaluate_without_gradient().loss

    def curvature_at(self, iteration: int) -> Curvature:
        """Measure the curvature of U at the current weights, as far as it is asked for."""
        settings, weights = self.settings, flatten(self.params)[:, None]

        def gradient(at: Tensor) -> Tensor:
            with self._at(at[:, 0]):
                return self._evaluate_with_gradient()[1][:, None]

        def probe(index: int) -> Tensor:
            draw = Draw(settings.seed, Stream.CURVATURE, iteration, index, self.training_seed)
            return random_signs(draw, len(weights)).to(weights.device)[:, None]

        batches = (self._minibatch_gradient(batch) for batch in self._minibatches(iteration))
        with _as_in_training(self.model):
            found = measured_curvature(gradient, weights, probe, batches, settings)
        return Curvature(*(float(values) for values in found))

    def _minibatch_gradient(self, batch: tuple[Tensor, Tensor]) -> Gradient:
        def gradient(at: Tensor) -> Tensor:
            with self._at(at[:, 0]):
                return self.gradient(*batch).double()[:, None]

        return gradient

    @contextmanager
    def _at(self, weights: Tensor) -> Iterator[None]:
        """Let the network have other weights [D] for a while."""
        kept = flatten(self.params)
        write_(self.params, weights.to(kept))
        try:
            yield
        finally:
            write_(self.params, kept)

    def noise_at(self, iteration: int, full_gradient: Tensor | None) -> GradientNoise:
        """Return the noise around the full gradient [D] or, without one, around the minibatches' mean.

        The minibatches depend on the seeds of measurement and training and on the iteration alone: members of
        a sweep that differ in their training seeds must differ here too, or errors over seeds are too small.
        """
        minibatches = _MinibatchGradients(self._minibatches(iteration))
        kept = gradients_are_kept(self.settings, count(self.params))
        with _as_in_training(self.model):
            if full_gradient is not None:
                return gradient_noise(full_gradient, minibatches)
            return gradient_noise_about_mean(list(minibatches) if kept else minibatches)

    def mean_squared_gradient(self, iteration: int) -> float:
        """Return the mean of |g|^2 over minibatches of their own, by which a norm is predicted."""
        batches = _Minibatches(self, Stream.START, START_GRADIENTS, iteration)
        with _as_in_training(self.model):
            squares = [float(self.gradient(*batch).double().square().sum()) for batch in batches]
        return sum(squares) / len(squares)

    def _minibatches(self, iteration: int) -> "_Minibatches":
        return _Minibatches(self, Stream.MEASUREMENT, self.settings.gradients, iteration)

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient [D] of the mean loss of a batch; ``.grad`` stays as it is."""
        return self._flat_gradient(self.loss(self.model(images), labels))

    def _flat_gradient(self, loss: Tensor) -> Tensor:
        return flatten(torch.autograd.grad(loss, self.params))


def random_signs(draw: Draw, size: int) -> Tensor:
    """Return so many numbers +1 and -1 in float64."""
    return torch.from_numpy(draw.generator().integers(0, 2, size) * 2.0 - 1.0)


def measured_curvature(
    gradient: Gradient,
    weights: Tensor,
    probe: Callable[[int], Tensor],
    batches: Iterable[Gradient],
    settings: MeasurementConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the values of a `Curvature` [..., members] at weights [..., D, members], NaN if not asked for.

    ``probe`` gives the random signs of a number, as the weights lie; ``batches`` are the gradients of
    minibatches.
    """
    unknown = weights.new_full((*weights.shape[:-2], weights.shape[-1]), math.nan, dtype=torch.float64)
    squared = trace = largest = sharpness = unknown
    if settings.hessian_probes or settings.power_iterations:
        squared = gradient(weights).square().sum(dim=-2)
    if settings.hessian_probes:
        probes = map(probe, range(settings.hessian_probes))
        trace = hessian_trace(gradient, weights, probes, settings.hessian_step)
    if settings.power_iterations:
        start, iterations = probe(settings.hessian_probes), settings.power_iterations
        largest = largest_curvature(gradient, weights, start, iterations, settings.hessian_step)
        sharpness = batch_sharpness(batches, weights, settings.hessian_step)
    return squared, trace, largest, sharpness


@dataclass(frozen=True)
class _Minibatches:
    """The same images and labels each time that they are gone through."""

    meter: GradientMeter
    stream: Stream
    count: int
    iteration: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        meter, data = self.meter, self.meter.data
        for index in range(self.count):
            draw = Draw(meter.settings.seed, self.stream, self.iteration, index, meter.training_seed)
            (batch,) = iid_batches(len(data.train_labels), meter.batch_size, [draw])
            yield data.batch(batch.to(data.train_labels.device))


@dataclass(frozen=True)
class _MinibatchGradients:
    """Their gradients, computed one at a time."""

    minibatches: _Minibatches

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.minibatches:
            yield self.minibatches.meter.gradient(*batch)


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Put a model into training mode for a while and leave mode and buffers as they were."""
    was_training = model.training
    model.train()
    try:
        with buffers_restored(model):
            yield
    finally:
        model.train(was_training)
