"""The protocol of a run: what makes its steps, and the thermodynamics of its noise."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from torch import nn

from pythermo.config.schema import RunConfig, TrainingConfig
from pythermo.optim import ProjectedSGD, WeightDecaySGD
from pythermo.sphere.protocols import PROTOCOLS, Protocol, Sphere

# Kernels of members side by side: those of the sphere by their retraction, all others by their protocol.
LANE_STEPS = {
    "projection": "lanes_projected_step",
    "exponential": "lanes_exponential_step",
    "fixed-lr": "lanes_fixed_lr_step",
    "fixed-elr": "lanes_fixed_elr_step",
}


def optimizer_of(config: RunConfig, params: Iterable[nn.Parameter]) -> ProjectedSGD | WeightDecaySGD:
    """Return what steps the parameters of a run."""
    training = config.training
    if training.retraction is not None:
        return ProjectedSGD(params, config.lr, training.radius, training.retraction)
    return WeightDecaySGD(params, config.lr, training.weight_decay, training.protocol == "fixed-elr")


def lane_step_of(training: TrainingConfig) -> str:
    """Return the kernel that steps members side by side."""
    return LANE_STEPS[training.retraction or training.protocol]


def step_parameter(training: TrainingConfig) -> float:
    """Return what that kernel takes beside the learning rate: the sphere's radius, or weight decay."""
    return training.radius if training.retraction is not None else training.weight_decay


@dataclass(frozen=True)
class Conditions:
    """What is held fixed in a run, and what follows from it and the noise.

    Attributes
    ----------
    protocol : Protocol
        How steps are made.
    lr, weight_decay : float
        The learning rate, effective at a fixed effective one, and weight decay.
    dim : int
        Number of trained weights D.
    """

    protocol: Protocol
    lr: float
    weight_decay: float
    dim: int

    @classmethod
    def of(cls, config: RunConfig, dim: int) -> Self:
        """Return those of a run with so many weights."""
        training = config.training
        named = PROTOCOLS[training.protocol]
        protocol = named if named.in_full_space else Sphere(training.radius)
        return cls(protocol, config.lr, training.weight_decay, dim)

    def temperature(self, trace: float) -> float:
        """Return T (loss units per nat) of isotropic noise with Tr Sigma on the unit sphere."""
        variance = trace / (self.dim - 1)
        return float(self.protocol.temperature(self.lr, variance, self.dim, self.weight_decay))

    def local_temperature(self, trace: float, squared_norm: float) -> float:
        """Return T of the noise at a norm that was measured, not at that of an ideal gas."""
        variance, norm = trace / (self.dim - 1), math.sqrt(squared_norm)
        return float(self.protocol.local_temperature(self.lr, variance, norm))

    def radius(self, squared_gradient: float) -> float:
        """Return the norm that gradients and decay lead to, by the mean of A on the unit sphere."""
        variance = squared_gradient / (self.dim - 1)
        return float(self.protocol.radius(self.lr, variance, self.dim, self.weight_decay))

    def pressure(self, squared_norm: float, next_squared_norm: float) -> float:
        """Return p of mean squared norms before and after a step, the latter not yet back on a sphere."""
        return float(self.protocol.pressure(self.lr, self.weight_decay, squared_norm, next_squared_norm))
