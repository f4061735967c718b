"""The protocols of training: how long a step is, and what temperature and radius it leads to.

A protocol is a class here, and a struct of the same name in csrc/protocols.hpp, by which the simulator steps.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

ProtocolName = Literal["sphere", "fixed-lr", "fixed-elr"]
FullSpaceName = Literal["fixed-lr", "fixed-elr"]


class Protocol(ABC):
    """How SGD on a scale-invariant loss is run, ``w <- w - s (grad + weight_decay w)``, and where it settles.

    All arguments may be numbers, arrays or tensors. Noise is given as its variance sigma^2 in each of the
    D - 1 tangent directions, on the unit sphere: for a network ``r^2 mean|g - G|^2 / (D - 1)``. Temperatures
    are in loss units per nat. Temperatures and radii hold in the stationary state as lr -> 0.

    Attributes
    ----------
    name : str
        As in `pythermo.sphere.simulate`.
    in_full_space : bool
        Whether the norm is free and weight decay has an effect. If not, a retraction brings each step back to
        the sphere.

    Notes
    -----
    Source: arXiv 2511.07308.
    """

    name: ClassVar[ProtocolName]
    in_full_space: ClassVar[bool]

    @abstractmethod
    def step_size(self, lr: Any, norm: Any) -> Any:
        """Return the step s at weights of a norm."""

    @abstractmethod
    def temperature(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return the temperature in D dimensions."""

    @abstractmethod
    def radius(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return the norm of the weights."""

    @abstractmethod
    def discrete_radius(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return the norm for steps of their size, by the mean A of ``norm^2 |grad|^2``, or NaN."""

    @abstractmethod
    def growth_over_decay(self, lr: Any, weight_decay: Any, moments: Any) -> Any:
        """Return growth of the squared norm by gradients over its loss: 1 in a stationary state, exactly.

        ``moments`` has the means over steps by their names in `pythermo.training.quantities`, such as
        ``moments["mean_r2"]``.
        """

    @abstractmethod
    def relaxation_time(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return the steps in which the norm forgets where it was, by A; NaN where it is given."""

    def pressure(self, lr: Any, weight_decay: Any, squared_norm: Any, next_squared_norm: Any) -> Any:
        """Return p (loss units per weight unit^2), by mean squared norms before and after a step."""
        return weight_decay

    def local_temperature(self, lr: Any, variance: Any, norm: Any) -> Any:
        """Return ``lr_eff sigma^2 / 2`` at a norm that was measured, not at that of an ideal gas."""
        return self.effective_lr(lr, norm) * variance / 2.0

    def effective_lr(self, lr: Any, norm: Any) -> Any:
        """Return ``s / norm^2``, the learning rate of the same motion on the unit sphere."""
        return self.step_size(lr, norm) / norm**2


@dataclass(frozen=True)
class Sphere(Protocol):
    """Steps of the size lr that are brought back to a sphere; weight decay has no effect.

    Attributes
    ----------
    fixed_radius : float
        The sphere's; positive.
    """

    name = "sphere"
    in_full_space = False

    fixed_radius: float = 1.0

    def step_size(self, lr: Any, norm: Any) -> Any:
        """Return lr."""
        return lr

    def temperature(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return ``lr sigma^2 / (2 r^2)``."""
        return self.effective_lr(lr, self.fixed_radius) * variance / 2.0

    def radius(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return the sphere's radius."""
        return self.fixed_radius

    def discrete_radius(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return the sphere's radius."""
        return self.fixed_radius

    def growth_over_decay(self, lr: Any, weight_decay: Any, moments: Any) -> Any:
        """Return the same over what is brought back to the sphere: an identity."""
        return lr**2 * moments["mean_g2"] / (moments["mean_next_r2"] - moments["mean_r2"])

    def relaxation_time(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return NaN."""
        return np.nan

    def pressure(self, lr: Any, weight_decay: Any, squared_norm: Any, next_squared_norm: Any) -> Any:
        """Return ``(mean |w'|^2 - r^2) / (2 lr r^2)``, with w' before it is brought back."""
        return (next_squared_norm - squared_norm) / (2.0 * lr * squared_norm)


@dataclass(frozen=True)
class FixedLR(Protocol):
    """Steps of the size lr in full space."""

    name = "fixed-lr"
    in_full_space = True

    def step_size(self, lr: Any, norm: Any) -> Any:
        """Return lr."""
        return lr

    def temperature(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return ``sqrt(lr decay sigma^2 / (2 (D - 1)))``."""
        return np.sqrt(lr * weight_decay * variance / (2.0 * (dim - 1)))

    def radius(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return the fourth root of ``lr sigma^2 (D - 1) / (2 decay)``."""
        return (lr * variance * (dim - 1) / (2.0 * weight_decay)) ** 0.25

    def discrete_radius(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return the fourth root of ``lr A / (decay (2 - lr decay))``."""
        return (lr * squared_gradient / (weight_decay * (2.0 - lr * weight_decay))) ** 0.25

    def growth_over_decay(self, lr: Any, weight_decay: Any, moments: Any) -> Any:
        """Return ``lr <A / r^2>`` over ``decay (2 - lr decay) <r^2>``."""
        return lr * moments["mean_g2"] / (weight_decay * (2.0 - lr * weight_decay) * moments["mean_r2"])

    def relaxation_time(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return ``1 / (4 lr decay)``."""
        return 0.25 / (lr * weight_decay)


@dataclass(frozen=True)
class FixedELR(Protocol):
    """Steps of the size ``lr |w|^2`` in full space: the effective learning rate is lr."""

    name = "fixed-elr"
    in_full_space = True

    def step_size(self, lr: Any, norm: Any) -> Any:
        """Return ``lr norm^2``."""
        return lr * norm**2

    def temperature(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return ``lr sigma^2 / 2``."""
        return lr * variance / 2.0

    def radius(self, lr: Any, variance: Any, dim: int, weight_decay: Any) -> Any:
        """Return the root of ``T (D - 1) / decay``."""
        return np.sqrt(self.temperature(lr, variance, dim, weight_decay) * (dim - 1) / weight_decay)

    def discrete_radius(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return the root of ``(1 - sqrt(1 - lr^2 A)) / (lr decay)``."""
        with np.errstate(invalid="ignore"):  # no norm is stationary at lr^2 A > 1
            return np.sqrt((1.0 - np.sqrt(1.0 - lr**2 * squared_gradient)) / (lr * weight_decay))

    def growth_over_decay(self, lr: Any, weight_decay: Any, moments: Any) -> Any:
        """Return ``lr <A r^2>`` over ``2 decay <r^4> - lr decay^2 <r^6>``."""
        lost = 2.0 * weight_decay * moments["mean_r4"] - lr * weight_decay**2 * moments["mean_r6"]
        return lr * moments["mean_r4_g2"] / lost

    def relaxation_time(self, lr: Any, squared_gradient: Any, weight_decay: Any) -> Any:
        """Return ``1 / (lr^2 A)``."""
        return 1.0 / (lr**2 * squared_gradient)


PROTOCOLS: dict[str, Protocol] = {one.name: one for one in (Sphere(), FixedLR(), FixedELR())}
