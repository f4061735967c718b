"""Closed forms for isotropic noise: the von Mises-Fisher distribution and the ideal gas."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ive

from pythermo._checks import as_floats, require_integer, require_one_of, require_positive
from pythermo.sphere.protocols import PROTOCOLS, FullSpaceName


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
        In loss units.

    Raises
    ------
    ValueError, TypeError
        For a temperature that is not positive, and another dimension.

    Notes
    -----
    Source: Mardia and Jupp, Directional Statistics, 2000.

    Examples
    --------
    >>> print(f"{von_mises_fisher_energy(0.005, dim=3):.6f}")
    0.005000
    """
    kappa, dim = 1.0 / _temperatures(temperature), require_integer("dim", dim, 2)
    return 1.0 - ive(dim / 2.0, kappa) / ive(dim / 2.0 - 1.0, kappa)


def von_mises_fisher_entropy(temperature: ArrayLike, dim: int) -> Any:
    """Return the differential entropy of that density in nats, about ``(D - 1)/2 log(2 pi e T)`` at low T.

    ``S = log Z + U / T`` with ``Z = exp(-1/T) (2 pi)^{D/2} T^{D/2-1} I_{D/2-1}(1/T)``.

    Parameters
    ----------
    temperature, dim
        As in `von_mises_fisher_energy`, with its shape and errors.
    """
    t, dim = _temperatures(temperature), require_integer("dim", dim, 2)
    order = dim / 2.0 - 1.0
    log_partition = dim / 2.0 * np.log(2.0 * np.pi) + order * np.log(t) + np.log(ive(order, 1.0 / t))
    return log_partition + von_mises_fisher_energy(t, dim) / t


def _temperatures(temperature: ArrayLike) -> Any:
    values = as_floats("temperature", temperature)
    wrong = ~((values > 0.0) & np.isfinite(values))
    if wrong.any():
        raise ValueError(f"temperature: must be positive and finite, not {values[wrong].flat[0]}")
    return values


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


def ideal_gas(
    lr: ArrayLike, weight_decay: float, sigma: float, dim: int, protocol: FullSpaceName
) -> IdealGas:
    """Return the stationary state of isotropic noise with weight decay in full space.

    Parameters
    ----------
    lr : array [...]
        Learning rates, or effective ones; positive.
    weight_decay : float
        Positive; without it the norm grows for ever.
    sigma : float
        Standard deviation of the noise in each tangent direction on the unit sphere, positive.
    dim : int
        The dimension D, at least 2.
    protocol : {"fixed-lr", "fixed-elr"}
        Steps of the size lr, or lr * |w|^2.

    Returns
    -------
    IdealGas
        With a temperature (loss units per nat) and a radius [...] for each learning rate.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, for values out of range and another protocol.

    Notes
    -----
    Exact as lr -> 0. Source: arXiv 2511.07308.

    Examples
    --------
    >>> gas = ideal_gas(0.01, weight_decay=0.1, sigma=1.0, dim=3, protocol="fixed-elr")
    >>> print(f"T = {gas.temperature:.3f}, p V = {gas.pressure * gas.volume:.3f}")
    T = 0.005, p V = 0.005
    """
    require_one_of("protocol", protocol, [name for name, one in PROTOCOLS.items() if one.in_full_space])
    rates = as_floats("lr", lr)
    wrong = ~((rates > 0.0) & np.isfinite(rates))
    if wrong.any():
        raise ValueError(f"lr: must be positive and finite, not {rates[wrong].flat[0]}")
    decay, variance = require_positive("weight_decay", weight_decay), require_positive("sigma", sigma) ** 2
    dim, law = require_integer("dim", dim, 2), PROTOCOLS[protocol]
    temperature = law.temperature(rates, variance, dim, decay)
    return IdealGas(temperature, decay, law.radius(rates, variance, dim, decay))
