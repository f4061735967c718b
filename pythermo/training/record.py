"""How far a run is and what was measured of it: all of it that is not its network."""

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from pythermo.config.schedule import (
    kept_iterations,
    measured_iterations,
    recorded_iterates,
    rescaled_iterations,
    window_is_full,
)
from pythermo.config.schema import RunConfig
from pythermo.data import Images
from pythermo.estimators.entropy import default_ks
from pythermo.estimators.trajectory_entropy import TrajectoryEntropy
from pythermo.models.losses import constant_prediction_loss
from pythermo.training.measure import Measured, Motion
from pythermo.training.protocols import Conditions
from pythermo.training.quantities import QUANTITIES
from pythermo.training.step_moments import StepSums


class OtherInstructionSetError(RuntimeError):
    """A run in lanes was begun with another instruction set than the one in use."""

    def __init__(self, there: str | None, here: str | None) -> None:
        super().__init__(
            f"a run in lanes that was begun with {there} goes on with {there} only, not with {here}: its "
            "bits would be others; go on where the processor has it, or remove the checkpoint and the run "
            "starts anew"
        )


class Record(ABC):
    """The iteration that a run is at, its window of iterates, and the rows that were measured.

    Parameters
    ----------
    config : RunConfig
        The run.
    dim : int
        Number of trained weights D.
    device : torch.device
        Where the weights lie.

    Attributes
    ----------
    failure : Exception, optional
        Why the run stays where it is: a gradient that was not finite, say.
    instruction_set : str, optional
        That on which its bits depend, if they do.
    """

    instruction_set: str | None = None

    def __init__(self, config: RunConfig, dim: int, device: torch.device) -> None:
        training, measurement = config.training, config.measurement
        self.config, self.dim = config, dim
        self.measured = measured_iterations(training.iterations, measurement.count, measurement.late)
        self._kept = set(kept_iterations(training.iterations, measurement.snapshots).tolist())
        self._recorded = recorded_iterates(
            training.iterations, self.measured, measurement.window, measurement.stride
        )
        self._window = TrajectoryEntropy(
            dim,
            measurement.window,
            default_ks(measurement.window),
            device=device if training.window_device == "device" else "cpu",
            pinned=training.window_device == "host",
        )
        self.conditions = Conditions.of(config, dim)
        self._log_radii: deque[float] = deque(maxlen=measurement.window)
        self.steps = StepSums(self.conditions.protocol, config.lr, training.weight_decay)
        predicted = training.start == "predicted"
        self._rescaled = rescaled_iterations(training.iterations) if predicted else set[int]()
        self.rows: list[dict[str, Any]] = []
        self.iteration = 0
        self.failure: Exception | None = None

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

    @property
    def counts_as_stationary(self) -> bool:
        """Whether the coming measurement is among those that count as stationary."""
        return len(self.rows) >= len(self.measured) - self.config.measurement.stationary

    @property
    def iterate_due(self) -> bool:
        """Whether a coming entropy needs the current weights."""
        return bool(self._recorded[self.iteration])

    @property
    def rescaling_due(self) -> bool:
        """Whether the norm is to be set to the predicted one."""
        return self.iteration in self._rescaled

    def predicted_radius(self, squared_gradient: float) -> float:
        """Return the norm that is predicted from the mean of |g|^2 on the unit sphere."""
        radius = self.conditions.radius(squared_gradient) if math.isfinite(squared_gradient) else math.nan
        if not radius > 0.0:
            raise ValueError(
                f"training.start: gradients whose squares are {squared_gradient:g} on average predict no norm"
            )
        return radius

    def keep_iterate(self, weights: Tensor) -> None:
        """Take the current weights [D] into the window: in full space their direction and norm apart."""
        if self.conditions.protocol.in_full_space:
            norm = float(torch.linalg.vector_norm(weights, dtype=torch.float64))
            self._log_radii.append(math.log(norm))
            weights = weights / norm
        else:
            self._log_radii.append(math.log(self.config.training.radius))
        self._window.append(weights)

    def motion(self, weights: Tensor) -> Motion:
        """Return where the run is, at weights [D], and how it moved there; moments of steps start over."""
        full = self._window_is_full
        log_radius = sum(self._log_radii) / len(self._log_radii) if full else math.nan
        window = self._window.estimate() if full else self._window.no_estimate()
        if self.conditions.protocol.in_full_space:
            window = replace(window, entropy=window.entropy + (self.dim - 1) * log_radius)
        norm = float(torch.linalg.vector_norm(weights, dtype=torch.float64))
        return Motion(self.conditions, norm, log_radius, window, self.steps.take())

    def window_mean(self) -> Tensor | None:
        """Return the mean [D] of the window's iterates, back on their sphere; None while it is not full."""
        if not self._window_is_full:
            return None
        mean = self._window.mean()
        on_sphere: Tensor = self.config.training.radius * mean / mean.norm()
        return on_sphere

    @property
    def _window_is_full(self) -> bool:
        measurement = self.config.measurement
        return window_is_full(self.iteration, measurement.window, measurement.stride)

    def add(self, measured: Measured) -> None:
        """Add what was measured of the current iterate."""
        self.rows.append({name: quantity.value(measured) for name, quantity in QUANTITIES.items()})

    def state(self) -> dict[str, Any]:
        """Return what it needs to be taken up again."""
        return {
            "iteration": self.iteration,
            "window": self._window.state_dict(),
            "log_radii": list(self._log_radii),
            "steps": self.steps.state(),
            "rows": self.rows,
            "instruction_set": self.instruction_set,
        }

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network as it is now."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on to bit-equal results."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration."""

    @abstractmethod
    def to_dataset(self) -> xr.Dataset:
        """Return the measurements so far."""

    def require_state(self, state: dict[str, Any]) -> None:
        """Raise OtherInstructionSetError for a state whose bits would go on as others here."""
        there = state.get("instruction_set")
        if there != self.instruction_set:
            raise OtherInstructionSetError(there, self.instruction_set)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration."""
        self._window.load_state_dict(state["window"])
        self._log_radii.extend(state["log_radii"])
        self.steps.load_state(state["steps"])
        self.rows = list(state["rows"])
        self.iteration = state["iteration"]

    def dataset(self, images: Images, model: nn.Module) -> xr.Dataset:
        """Return the measurements so far, of a network on its images."""
        training = self.config.training
        variables = {
            name: (
                ("iteration", "k") if quantity.by_neighbors else ("iteration",),
                np.array([row.get(name, math.nan) for row in self.rows]),
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
                "seed": ((), training.seed, {"long_name": "seed of the training draws"}),
            },
            attrs={
                "config": self.config.to_toml(),
                "weights": self.dim,
                "trained_parameters": " ".join(
                    name for name, param in model.named_parameters() if param.requires_grad
                ),
                "constant_loss": constant_prediction_loss(training.loss, images.train_labels.cpu()),
                "full_gradient": self.config.measurement.full_gradient,
                "pythermo_version": version("pythermo"),
                "torch_version": str(torch.__version__),
            },
        )
