"""A network in training at a fixed learning rate, its measurements, and its state."""

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import xarray as xr

from pythermo import data, ops
from pythermo._parameters import count, flatten, write_
from pythermo.config.schedule import kept_iterations, measured_iterations, recorded_iterates
from pythermo.config.schema import RunConfig
from pythermo.estimators.entropy import default_ks
from pythermo.estimators.trajectory_entropy import TrajectoryEntropy
from pythermo.models.layers import trained_parameters
from pythermo.models.losses import LOSSES, constant_prediction_loss
from pythermo.ops._devices import require_device
from pythermo.optim import ProjectedSGD
from pythermo.training.batches import BATCHES, BatchesOnDevice
from pythermo.training.measure import GradientMeter
from pythermo.training.network import build_network
from pythermo.training.quantities import QUANTITIES
from pythermo.training.step import captured_step, plain_step
from pythermo.training.torch_settings import own_settings


class Trainer:
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
        training, measurement = config.training, config.measurement
        device = require_device(training.device)
        self.config = config
        images = data.load(**config.data.model_dump()) if images is None else images
        self.data = images.to(device)
        self.model = build_network(config, self.data).to(device)
        self.params = trained_parameters(self.model)
        self.optimizer = ProjectedSGD(
            self.params, lr=config.lr, radius=training.radius, retraction=training.retraction
        )
        batches = BATCHES[training.sampling](len(self.data.train_labels), training.batch_size, training.seed)
        self.batches = BatchesOnDevice(batches, device)
        self.loss = LOSSES[training.loss]
        self.meter = GradientMeter(
            self.model, self.loss, self.params, self.data, training.batch_size, measurement, training.seed
        )
        self.measured = measured_iterations(training.iterations, measurement.count)
        self._kept = set(kept_iterations(training.iterations, measurement.snapshots).tolist())
        self._recorded = recorded_iterates(training.iterations, self.measured, measurement.window)
        self._window = TrajectoryEntropy(
            count(self.params),
            measurement.window,
            default_ks(measurement.window),
            device=device if training.window_device == "device" else "cpu",
            pinned=training.window_device == "host",
        )
        if training.cuda_graph:
            self._step = captured_step(self.model, self.loss, self.optimizer, self.data, training.batch_size)
        else:
            self._step = plain_step(self.model, self.loss, self.optimizer, self.data)
        self.rows: list[dict[str, Any]] = []
        self.iteration = 0
        self._record()

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done and measured."""
        return self.iteration >= self.config.training.iterations and not self.measurement_due

    @property
    def snapshot_due(self) -> bool:
        """Whether the current weights are to be kept."""
        return self.iteration in self._kept

    @property
    def measurement_due(self) -> bool:
        """Whether the current iterate is to be measured and has not been."""
        return len(self.rows) < len(self.measured) and self.measured[len(self.rows)] == self.iteration

    @own_settings(threads=None)
    def step(self) -> None:
        """Make one training step."""
        self._step(self.batches.at(self.iteration))
        self.iteration += 1
        self._record()

    @own_settings(threads=None)
    def measure(self) -> None:
        """Measure the current iterate; the run goes on as if this had not been called."""
        ops.raise_failed_steps(self.config.training.device)
        ready = self.iteration >= self.config.measurement.window - 1
        window = self._window.estimate() if ready else self._window.no_estimate()
        measured = self.meter.measure(self.iteration, window)
        self.rows.append({name: quantity.value(measured) for name, quantity in QUANTITIES.items()})

    def weights(self) -> torch.Tensor:
        """Return a copy of the trained weights [D]."""
        return flatten(self.params)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on to bit-equal results."""
        return {
            "iteration": self.iteration,
            "weights": self.weights().cpu(),
            "buffers": {name: buffer.to("cpu", copy=True) for name, buffer in self.model.named_buffers()},
            "window": self._window.state_dict(),
            "rows": self.rows,
        }

    @own_settings(threads=None)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration."""
        write_(self.params, state["weights"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        self._window.load_state_dict(state["window"])
        self.rows = list(state["rows"])
        self.iteration = state["iteration"]

    @own_settings(threads=None)
    def to_dataset(self) -> xr.Dataset:
        """Return the measurements so far."""
        variables = {
            name: (
                ("iteration", "k") if quantity.by_neighbors else ("iteration",),
                np.array([row[name] for row in self.rows]),
                {"long_name": quantity.long_name, "units": quantity.unit, "source": quantity.source},
            )
            for name, quantity in QUANTITIES.items()
        }
        return xr.Dataset(
            variables,
            coords={
                "iteration": ("iteration", self.measured[: len(self.rows)], {"units": "iterations"}),
                "k": ("k", self._window.ks, {"long_name": "number of neighbors"}),
                "lr": ((), self.config.lr, {"long_name": "learning rate"}),
                "seed": ((), self.config.training.seed, {"long_name": "seed of the training draws"}),
            },
            attrs={
                "config": self.config.to_toml(),
                "weights": count(self.params),
                "constant_loss": constant_prediction_loss(
                    self.config.training.loss, self.data.train_labels.cpu()
                ),
                "full_gradient": self.config.measurement.full_gradient,
                "pythermo_version": version("pythermo"),
                "torch_version": str(torch.__version__),
            },
        )

    def _record(self) -> None:
        if self._recorded[self.iteration]:
            self._window.append(self.weights())
