"""Runs of a sweep side by side, in the processor's vectors or on a device: they step, and are measured."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from pythermo import data
from pythermo._parameters import flatten, write_
from pythermo.config.schema import RunConfig
from pythermo.estimators.curvature import Curvature, Gradient
from pythermo.models.layers import trained_parameters
from pythermo.ops._devices import require_device
from pythermo.ops.lanes_gradient_sums import member_gradient_sums
from pythermo.training.batches import BATCHES, BatchesOnDevice, Draw, Stream, iid_batches
from pythermo.training.lane_layout import Batch, Layout
from pythermo.training.lane_step import LaneSteps
from pythermo.training.lane_sums import Evaluations, GradientSums, Samples, squared_norms, stacked
from pythermo.training.lanes import LaneNetwork
from pythermo.training.measure import (
    START_GRADIENTS,
    Evaluation,
    Measured,
    gradients_are_kept,
    measured_curvature,
    random_signs,
)
from pythermo.training.network import build_network
from pythermo.training.program import read_program
from pythermo.training.protocols import lane_step_of, step_parameter
from pythermo.training.record import Record
from pythermo.training.torch_settings import own_settings

# Steps on a device between two looks at which members it did not move, for which it is waited.
_UNSEEN_STEPS = 64


class LaneTrainer:
    """Networks of a sweep on their way, side by side; as `Trainer` in all that is measured of each.

    Runs may be at different iterations: those that are to be measured wait for none, those that are finished
    or have failed stay where they are. What a run's bits depend on is its configuration and the instruction
    set or the device's kind, not the others.

    Parameters
    ----------
    configs : sequence of RunConfig
        They differ in learning rate, seed, weight decay and radius alone; on the CPU as many as a vector has
        lanes, at most.
    images : Images, optional
        As in `Trainer`.

    Attributes
    ----------
    runs : list of LaneRun
        One for each configuration.
    """

    @own_settings(threads=None)
    def __init__(self, configs: Sequence[RunConfig], images: data.Images | None = None) -> None:
        first = configs[0]
        device = require_device(first.training.device)
        self.layout = layout = (
            Layout.of_vector() if device.type == "cpu" else Layout.on_device(len(configs), device)
        )
        if len(configs) > layout.members:
            raise ValueError(f"configs: {len(configs)} are more than the {layout.members} lanes")
        self.data = data.load(**first.data.model_dump()) if images is None else images
        self.model = build_network(first, self.data)
        _, channels, height, width = self.data.train_images.shape
        self.program = program = read_program(self.model, (channels, height, width))
        self.dim = program.dim
        self._training, self._measurement = first.training, first.measurement
        self._network = LaneNetwork(program, layout)
        self._network.weights.set(self._starts(configs))
        self._train = Samples(self.data.train_images, self.data.train_labels, layout)
        self._test = Samples(self.data.test_images, self.data.test_labels, layout)
        self._squared_error = first.training.loss == "mse"
        self._steps = LaneSteps(
            self._network,
            self._train.batch,
            lane_step_of(first.training),
            [step_parameter(config.training) for config in configs],
            first.training.batch_size,
            self._squared_error,
        )
        in_lanes = [config.changed(**{"training.engine": "lanes"}) for config in configs]
        self.runs = [LaneRun(config, self, lane) for lane, config in enumerate(in_lanes)]
        self._keep_iterates(self.runs)

    def _starts(self, configs: Sequence[RunConfig]) -> Tensor:
        """Return the initial points [runs, D]: one direction, each at the radius of its run."""
        points = {configs[0].training.radius: flatten(trained_parameters(self.model))}
        for config in configs[1:]:
            radius = config.training.radius
            if radius not in points:
                points[radius] = flatten(trained_parameters(build_network(config, self.data)))
        return torch.stack([points[config.training.radius] for config in configs])

    @property
    def bytes(self) -> int:
        """Memory of the networks so far: weights, values and gradients of a batch; windows are the runs'."""
        return self._network.bytes

    @property
    def _active(self) -> list["LaneRun"]:
        return [run for run in self.runs if not run.finished and run.failure is None]

    @own_settings(threads=None)
    def advance(self) -> None:
        """Measure the runs that are to be measured or, if there are none, make a step of all."""
        due = [run for run in self._active if run.measurement_due]
        if due:
            self._measure(due)
        else:
            self.step()

    @own_settings(threads=None)
    def step(self) -> None:
        """Make a step of all runs that are neither finished nor failed."""
        active = self._active
        rates = [0.0] * self.layout.members
        for run in active:
            rates[run.lane] = run.config.lr
        self._steps.make([run.batches.at(run.iteration) for run in self.runs], rates)
        for run in active:
            run.iteration += 1
        if self._steps.notes.full:
            self.take_notes()
        if not self.layout.on_a_device or self._steps.unseen == _UNSEEN_STEPS:
            self._see_failures(active)
        self._rescale([run for run in active if run.failure is None and run.rescaling_due])
        self._keep_iterates(active)

    def take_notes(self) -> None:
        """Let the runs that are neither finished nor failed have the notes of their steps."""
        noted = self._steps.notes.take().reshape(-1, self.layout.groups or 1, 3, self.layout.lanes)
        of_members = noted.swapaxes(2, 3).reshape(-1, self.layout.members, 3)
        for run in self._active:
            run.steps.add(of_members[:, run.lane])

    def _rescale(self, due: Sequence["LaneRun"]) -> None:
        """Set the norms of runs' weights to what their gradients predict."""
        if not due:
            return
        total = self._zeros().sum(dim=-2).flatten()
        for batch in self._minibatches(Stream.START, START_GRADIENTS):
            self._network.losses_and_gradient(batch, self._squared_error)
            total += self._network.grad.flat.double().square().sum(dim=-2).flatten()
        weights = self.weights()
        norms = weights.double().norm(dim=1)
        for run in due:
            squared = float(norms[run.lane] ** 2 * total[run.lane] / START_GRADIENTS)
            try:
                weights[run.lane] *= run.predicted_radius(squared) / float(norms[run.lane])
            except ValueError as error:
                run.failure = error
        self._network.weights.set(weights)

    def _see_failures(self, active: Sequence["LaneRun"]) -> None:
        """Let runs that were not moved fail at the iteration at which that was."""
        refused = self._steps.refused()
        for run in active:
            if run.lane in refused:
                why, lacking = refused[run.lane]
                run.iteration -= lacking
                run.failure = ValueError(f"lr {run.config.lr:.6g}, iteration {run.iteration}: {why}")

    def weights(self) -> Tensor:
        """Return a copy of the trained weights, [runs, D]."""
        return self._network.weights.get(len(self.runs))

    def set_weights(self, lane: int, weights: Tensor) -> None:
        """Set the weights [D] of one run."""
        changed = self.weights()
        changed[lane] = weights
        self._network.weights.set(changed)

    def network(self, weights: Tensor) -> nn.Module:
        """Return the network with some weights [D]; it is the same one each time."""
        write_(trained_parameters(self.model), weights)
        return self.model

    def _keep_iterates(self, runs: Sequence["LaneRun"]) -> None:
        due = [run for run in runs if run.failure is None and run.iterate_due]
        if due:
            weights = self.weights()
            for run in due:
                run.keep_iterate(weights[run.lane])

    def _measure(self, due: list["LaneRun"]) -> None:
        self._see_failures(self._active)
        self.take_notes()
        due = [run for run in due if run.failure is None]
        train, full_gradient = self._evaluate_training_images()
        test = self._evaluate(self._test)
        sums = self._gradient_sums(full_gradient)
        weights = self.weights()
        quench = self._quench_losses(due)
        curvature = self._curvature() if any(run.counts_as_stationary for run in due) else None
        for run in due:
            known = Curvature() if curvature is None or not run.counts_as_stationary else curvature[run.lane]
            try:
                noise = sums.noise(run.lane)
                motion = run.motion(weights[run.lane])
                run.add(Measured(train[run.lane], test[run.lane], noise, quench[run.lane], known, motion))
            except ValueError as error:
                run.failure = error

    def _quench_losses(self, due: Sequence["LaneRun"]) -> list[float]:
        """Return the training loss of each run at its window's mean, NaN where it is not due or not full."""
        losses, weights = [math.nan] * len(self.runs), self.weights()
        means = {run.lane: mean for run in due if (mean := run.window_mean()) is not None}
        if means:
            for lane, mean in means.items():
                weights[lane] = mean.to(weights)
            with self._at(self._network.weights.placed(weights)):
                found = self._evaluate(self._train)
            for lane in means:
                losses[lane] = found[lane].loss
        return losses

    def _curvature(self) -> list[Curvature]:
        """Measure the curvature of U at the current weights of all runs, as far as it is asked for."""

        def gradient(at: Tensor) -> Tensor:
            with self._at(at):
                return self._evaluate_with_gradient()[1]

        def probe(index: int) -> Tensor:
            draws = [
                Draw(self._measurement.seed, Stream.CURVATURE, run.iteration, index, run.config.training.seed)
                for run in self.runs
            ]
            return self._network.weights.placed(torch.stack([random_signs(one, self.dim) for one in draws]))

        here = self._network.weights.flat.clone()
        batches = map(self._gradient_of, self._minibatches(Stream.MEASUREMENT, self._measurement.gradients))
        found = measured_curvature(gradient, here, probe, batches, self._measurement)
        return [Curvature(*values) for values in zip(*(one.flatten().tolist() for one in found), strict=True)]

    def _gradient_of(self, batch: Batch) -> Gradient:
        def gradient(at: Tensor) -> Tensor:
            with self._at(at):
                self._network.losses_and_gradient(batch, self._squared_error)
                return self._network.grad.flat.double()

        return gradient

    @contextmanager
    def _at(self, weights: Tensor) -> Iterator[None]:
        """Let the networks have other weights [..., D, lanes] for a while."""
        flat = self._network.weights.flat
        kept = flat.clone()
        flat.copy_(weights)
        try:
            yield
        finally:
            flat.copy_(kept)

    def _evaluate(self, samples: Samples) -> list[Evaluation]:
        total = Evaluations(self.layout)
        for batch in samples.batches(self._measurement.evaluation_batch):
            total.add(self._network.losses(batch, self._squared_error), len(batch))
        return total.means()

    def _evaluate_training_images(self) -> tuple[list[Evaluation], Tensor | None]:
        """Evaluate, and return, where it is that of evaluation batches, the full gradient [..., D, lanes]."""
        if self._measurement.full_gradient == "mean":
            return self._evaluate(self._train), None
        return self._evaluate_with_gradient()

    def _evaluate_with_gradient(self) -> tuple[list[Evaluation], Tensor]:
        total, gradient = Evaluations(self.layout), self._zeros()
        for batch in self._train.batches(self._measurement.evaluation_batch):
            total.add(self._network.losses_and_gradient(batch, self._squared_error), len(batch))
            gradient += len(batch) * self._network.grad.flat.double()
        return total.means(), gradient / len(self._train)

    def _gradient_sums(self, full_gradient: Tensor | None) -> GradientSums:
        if full_gradient is not None:
            sums = (member_gradient_sums(grad, center=full_gradient) for grad in self._minibatch_gradients())
            return GradientSums(stacked(sums), squared_norms(full_gradient), None)
        kept = gradients_are_kept(self._measurement, self.dim * self.layout.lanes)
        grads = [grad.clone() for grad in self._minibatch_gradients()] if kept else None
        total = self._zeros()
        sums = (member_gradient_sums(grad, total=total) for grad in grads or self._minibatch_gradients())
        first, center = stacked(sums), total / self._measurement.gradients
        again = (member_gradient_sums(grad, center=center) for grad in grads or self._minibatch_gradients())
        return GradientSums(first, squared_norms(total), stacked(again))

    def _minibatches(self, stream: Stream, count: int) -> Iterator[Batch]:
        """Yield runs' own minibatches for a purpose."""
        for index in range(count):
            draws = [
                Draw(self._measurement.seed, stream, run.iteration, index, run.config.training.seed)
                for run in self.runs
            ]
            indices = iid_batches(len(self._train), self._training.batch_size, draws).to(self.layout.device)
            yield self._train.batch(indices)

    def _minibatch_gradients(self) -> Iterator[Tensor]:
        """Yield their gradients [..., D, lanes]; the next one takes its memory."""
        for batch in self._minibatches(Stream.MEASUREMENT, self._measurement.gradients):
            self._network.losses_and_gradient(batch, self._squared_error)
            yield self._network.grad.flat

    def _zeros(self) -> Tensor:
        return torch.zeros_like(self._network.grad.flat, dtype=torch.float64)


class LaneRun(Record):
    """One of the runs of a `LaneTrainer`, in the lane of its number."""

    def __init__(self, config: RunConfig, trainer: LaneTrainer, lane: int) -> None:
        super().__init__(config, trainer.dim, trainer.layout.device)
        training, images = config.training, len(trainer.data.train_labels)
        batches = BATCHES[training.sampling](images, training.batch_size, training.seed)
        self.batches = BatchesOnDevice(batches, trainer.layout.device)
        self.lane = lane
        self.instruction_set = trainer.layout.instruction_set
        self._trainer = trainer

    def weights(self) -> Tensor:
        """Return a copy of the trained weights [D]."""
        return self._trainer.weights()[self.lane].clone()

    def network(self) -> nn.Module:
        """Return the network as it is now, for a short time: the other runs have the same module."""
        return self._trainer.network(self.weights())

    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on to bit-equal results."""
        self._trainer.take_notes()
        return self.state() | {"weights": self.weights().cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration and instruction set."""
        self.require_state(state)
        self._trainer.set_weights(self.lane, state["weights"])
        self.load_state(state)

    @own_settings(threads=None)
    def to_dataset(self) -> xr.Dataset:
        """Return the measurements so far."""
        dataset = self.dataset(self._trainer.data, self._trainer.model)
        return dataset.assign_attrs(instruction_set=self.instruction_set)
