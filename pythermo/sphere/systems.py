"""Losses on the sphere whose SGD is simulated."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pythermo._checks import (
    Floats,
    as_floats,
    require_finite,
    require_integer,
    require_not_negative,
    unit_rows,
)
from pythermo.sphere.protocols import Sphere


@dataclass(frozen=True, eq=False)
class Quadratics:
    """Samples with the losses ``f_i(w) = <x_i, w>^2 / |w|^2``; L is their mean.

    Attributes
    ----------
    vectors : array [N, D]
        The x_i, of norm 1; N >= 1, D >= 2.

    Raises
    ------
    ValueError
        For another shape, elements that are not finite, vectors of another norm (named by their row).

    Notes
    -----
    Underparameterized, with a loss above 0 everywhere, if the vectors span the space; else
    overparameterized. Source: arXiv 2505.23489, the three-dimensional toy.
    """

    vectors: Floats

    def __post_init__(self) -> None:
        vectors = as_floats("vectors", self.vectors)
        if vectors.ndim != 2 or vectors.shape[0] < 1 or vectors.shape[1] < 2:
            raise ValueError(
                f"vectors: must have the shape [N, D], N >= 1, D >= 2, not {list(vectors.shape)}"
            )
        require_finite("vectors", vectors)
        object.__setattr__(self, "vectors", unit_rows("vectors", vectors))

    @property
    def dim(self) -> int:
        """The dimension D."""
        return int(self.vectors.shape[1])

    @property
    def min_loss(self) -> float:
        """The least loss: the least eigenvalue of the mean of x x^T, 0 where the vectors leave room."""
        samples, dim = self.vectors.shape
        if np.linalg.matrix_rank(self.vectors) < dim:
            return 0.0
        return float(np.linalg.svd(self.vectors, compute_uv=False)[-1] ** 2 / samples)

    def loss(self, w: ArrayLike) -> Any:
        """Return the loss at points [..., D] other than 0, as an array [...]."""
        return (self._projections(w) ** 2).mean(axis=-1)

    def gradients(self, w: ArrayLike) -> Floats:
        """Return the gradients [..., N, D] of the samples' losses at points [..., D] other than 0."""
        points = _points(w, self.dim)
        norm = np.linalg.norm(points, axis=-1, keepdims=True)[..., None]
        a = self._projections(points)[..., None]
        result: Floats = 2.0 * a * (self.vectors - a * points[..., None, :] / norm) / norm
        return result

    def _projections(self, w: ArrayLike) -> Floats:
        points = _points(w, self.dim)
        result: Floats = points @ self.vectors.T / np.linalg.norm(points, axis=-1, keepdims=True)
        return result


@dataclass(frozen=True)
class IsotropicNoise:
    """The loss ``L(w) = 1 + w_D / |w|`` with isotropic gradient noise: a system of known temperature.

    The noise is ``sigma * N(0, 1) / |w|`` in each direction that is tangent to the sphere at w.

    Attributes
    ----------
    dim : int
        The dimension D, at least 2.
    sigma : float
        Standard deviation of the noise in each direction at |w| = 1, not negative.

    Raises
    ------
    ValueError, TypeError
        For another dimension or sigma.

    Notes
    -----
    Source: arXiv 2511.07308.
    """

    dim: int
    sigma: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", require_integer("dim", self.dim, 2))
        object.__setattr__(self, "sigma", require_not_negative("sigma", self.sigma))

    @property
    def min_loss(self) -> float:
        """The least loss, 0, at (0, ..., 0, -1)."""
        return 0.0

    def loss(self, w: ArrayLike) -> Any:
        """Return the loss at points [..., D] other than 0, as an array [...]."""
        points = _points(w, self.dim)
        return 1.0 + points[..., -1] / np.linalg.norm(points, axis=-1)

    def temperature(self, lr: ArrayLike) -> Any:
        """Return the temperature ``lr * sigma^2 / 2`` of SGD on the unit sphere, exact as lr -> 0."""
        return Sphere().temperature(as_floats("lr", lr), self.sigma**2, self.dim, 0.0)


System = Quadratics | IsotropicNoise


def underparameterized() -> Quadratics:
    """Return the paper's system of three vectors, whose least loss is 1/26, at (0, 0, +-1)."""
    half, root = 0.5, np.sqrt(3.0) / 2.0
    rows = np.array([[1.0, 0.0, 0.2], [-half, root, 0.2], [-half, -root, 0.2]])
    return Quadratics(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def overparameterized() -> Quadratics:
    """Return the paper's system of two vectors, whose least loss is 0, at (0, 0, +-1)."""
    root = np.sqrt(3.0) / 2.0
    return Quadratics(np.array([[root, 0.5, 0.0], [root, -0.5, 0.0]]))


def _points(w: ArrayLike, dim: int) -> Floats:
    points = as_floats("w", w)
    if points.ndim < 1 or points.shape[-1] != dim:
        raise ValueError(f"w: must have the shape [..., {dim}], not {list(points.shape)}")
    require_finite("w", points)
    if not points.any(axis=-1).all():
        raise ValueError("w: a point is zero, where the loss is not defined")
    return points
