"""Closed forms for isotropic noise: the von Mises-Fisher distribution and the ideal gas."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ive

Floats = NDArray[np.float64]
GasProtocol = Literal["fixed-lr", "fixed-elr"]


def von_mises_fisher_energy(temperature: ArrayLike, dim: int) -> Any:
    """Return the mean of ``1 + w_D`` under the density proportional to ``exp(-w_D / T)`` on the unit sphere.

    ``U = 1 - I_{D/2}(1/T) / I_{D/2-1}(1/T)``, about ``(D - 1) T / 2`` at low T.

    Parameters
    ----------
    temperature : array [...]
        Positive, in loss units per nat.
    dim : int
        The dimension D of the space.

    Returns
    -------
    array [...]
    """
    kappa = 1.0 / np.asarray(temperature, dtype=np.float64)
    return 1.0 - ive(dim / 2.0, kappa) / ive(dim / 2.0 - 1.0, kappa)


def von_mises_fisher_entropy(temperature: ArrayLike, dim: int) -> Any:
    """Return the differential entropy of that density in nats, about ``(D - 1)/2 log(2 pi e T)`` at low T.

    Parameters and result as `von_mises_fisher_energy`. ``S = log Z + U / T`` with
    ``Z = exp(-1/T) (2 pi)^{D/2} T^{D/2-1} I_{D/2-1}(1/T)``.
    """
    t = np.asarray(temperature, dtype=np.float64)
    order = dim / 2.0 - 1.0
    log_partition = dim / 2.0 * np.log(2.0 * np.pi) + order * np.log(t) + np.log(ive(order, 1.0 / t))
    return log_partition + von_mises_fisher_energy(t, dim) / t


@dataclass(frozen=True)
class IdealGas:
    """Stationary state in full space: temperature, pressure (the weight decay), radius and volume r^2/2.

    ``pressure * volume = (D - 1) temperature / 2``.
    """

    temperature: Any
    pressure: float
    radius: Any

    @property
    def volume(self) -> Any:
        """Half the squared radius."""
        return self.radius**2 / 2.0


def ideal_gas(lr: ArrayLike, weight_decay: float, sigma: float, dim: int, protocol: GasProtocol) -> IdealGas:
    """Return the stationary state of isotropic noise with weight decay in full space.

    Parameters
    ----------
    lr : array [...]
        Learning rates, or effective ones.
    weight_decay, sigma : float
        Positive.
    dim : int
        The dimension D.
    protocol : {"fixed-lr", "fixed-elr"}
        Steps of the size lr, or lr * |w|^2.

    Notes
    -----
    Exact as lr -> 0. Source: arXiv 2511.07308.
    """
    rates = np.asarray(lr, dtype=np.float64)
    freedom = dim - 1
    if protocol == "fixed-elr":
        temperature = rates * sigma**2 / 2.0
        radius = np.sqrt(temperature * freedom / weight_decay)
    else:
        temperature = np.sqrt(rates * weight_decay * sigma**2 / (2.0 * freedom))
        radius = (rates * sigma**2 * freedom / (2.0 * weight_decay)) ** 0.25
    return IdealGas(temperature, weight_decay, radius)
