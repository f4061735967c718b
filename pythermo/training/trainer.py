"""A network in training at a fixed learning rate, its measurements, and its state."""

from typing import Any, Self

import torch
import xarray as xr
from torch import nn

from pythermo import data, ops
from pythermo._parameters import count, flatten, write_
from pythermo.config.schema import RunConfig
from pythermo.estimators.curvature import Curvature
from pythermo.models.layers import trained_parameters
from pythermo.models.losses import LOSSES
from pythermo.ops._devices import require_device
from pythermo.optim import project_
from pythermo.training.batches import BATCHES, BatchesOnDevice
from pythermo.training.measure import GradientMeter
from pythermo.training.network import build_network
from pythermo.training.protocols import optimizer_of
from pythermo.training.record import Record
from pythermo.training.step import captured_step, plain_step
from pythermo.training.step_moments import StepNotes, products
from pythermo.training.torch_settings import own_settings


class Trainer(Record):
    """A network on its way: it steps, it measures, and it can be put down and taken up again.

    Parameters
    ----------
    config : RunConfig
        What defines the run, and nothing else does: the same configuration gives the same bits on the
        same machine with the same number of threads, whatever else the caller has set (`own_settings`).
    images : Images, optional
        Images of the caller's own in the place of those that ``config.data`` names, which then says nothing
        about the run.
    """

    @own_settings(threads=None)
    def __init__(self, config: RunConfig, images: data.Images | None = None) -> None:
        config = config.changed(**{"training.engine": "torch"})
        training, measurement = config.training, config.measurement
        device = require_device(training.device)
        images = data.load(**config.data.model_dump()) if images is None else images
        self.data = images.to(device)
        self.model = build_network(config, self.data).to(device)
        self.params = trained_parameters(self.model)
        super().__init__(config, count(self.params), device)
        self.optimizer = optimizer_of(config, self.params)
        self._notes = StepNotes(3, device)
        batches = BATCHES[training.sampling](len(self.data.train_labels), training.batch_size, training.seed)
        self.batches = BatchesOnDevice(batches, device)
        self.loss = LOSSES[training.loss]
        self.meter = GradientMeter(
            self.model, self.loss, self.params, self.data, training.batch_size, measurement, training.seed
        )
        if training.cuda_graph:
            self._step = captured_step(
                self.model, self.loss, self.optimizer, self.data, training.batch_size, self._note
            )
            self._notes.start_over()
        else:
            self._step = plain_step(self.model, self.loss, self.optimizer, self.data, self._note)
        self._keep_iterate_if_due()

    @property
    def runs(self) -> list[Self]:
        """The runs that this trains: itself."""
        return [self]

    def advance(self) -> None:
        """Measure if the current iterate is to be measured, else make a step."""
        if self.measurement_due:
            self.measure()
        else:
            self.step()

    @own_settings(threads=None)
    def step(self) -> None:
        """Make one training step."""
        try:
            self._step(self.batches.at(self.iteration))
        except ValueError as error:
            raise ValueError(f"lr {self.config.lr:.6g}, iteration {self.iteration}: {error}") from error
        self._notes.count()
        self.iteration += 1
        if self._notes.full:
            self._take_notes()
        if self.rescaling_due:
            self._rescale()
        self._keep_iterate_if_due()

    @own_settings(threads=None)
    def measure(self) -> None:
        """Measure the current iterate; the run goes on as if this had not been called."""
        ops.raise_failed_steps(self.config.training.device)
        curvature = self.meter.curvature_at(self.iteration) if self.counts_as_stationary else Curvature()
        self._take_notes()
        motion = self.motion(self.weights())
        self.add(self.meter.measure(self.iteration, motion, self.window_mean(), curvature))

    def network(self) -> nn.Module:
        """Return the network as it is now."""
        return self.model

    def weights(self) -> torch.Tensor:
        """Return a copy of the trained weights [D]."""
        return flatten(self.params)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on to bit-equal results."""
        self._take_notes()
        buffers = {name: buffer.to("cpu", copy=True) for name, buffer in self.model.named_buffers()}
        return self.state() | {"weights": self.weights().cpu(), "buffers": buffers}

    @own_settings(threads=None)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration."""
        write_(self.params, state["weights"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        self._notes.start_over()
        self.load_state(state)

    @own_settings(threads=None)
    def to_dataset(self) -> xr.Dataset:
        """Return the measurements so far."""
        return self.dataset(self.data, self.model)

    def _note(self) -> None:
        self._notes.note(products(self.params))

    def _take_notes(self) -> None:
        self.steps.add(self._notes.take())

    def _rescale(self) -> None:
        """Set the norm of the weights to what their gradients predict."""
        squared_norm = float(self.weights().double().square().sum())
        squared_gradient = squared_norm * self.meter.mean_squared_gradient(self.iteration)
        project_(self.params, self.predicted_radius(squared_gradient))

    def _keep_iterate_if_due(self) -> None:
        if self.iterate_due:
            self.keep_iterate(self.weights())
