"""Curvature of a loss from its gradient alone, by differences that see the kinks of ReLU."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# Returns the gradients [..., D, members], in float64, at weights of that shape.
Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Curvature:
    """What is known of a loss around some weights; NaN where it was not measured.

    Attributes
    ----------
    squared_gradient : float
        |∇U|^2 of the loss itself, in (loss units per weight unit)^2.
    trace, largest : float
        Trace of its Hessian, and its eigenvalue of the largest magnitude, in loss units per weight unit^2.
    along_gradients : float
        Curvature of minibatches' losses along their own gradients, see `batch_sharpness`, in the same unit.
    """

    squared_gradient: float = math.nan
    trace: float = math.nan
    largest: float = math.nan
    along_gradients: float = math.nan


def hessian_product(gradient: Gradient, weights: Tensor, direction: Tensor, step: float) -> Tensor:
    """Return the Hessian times a direction, by the gradients on both sides of the weights.

    Parameters
    ----------
    gradient : callable
        Gives the gradients [..., D, members] at weights of that shape.
    weights, direction : Tensor [..., D, members]
        The direction of each member is not zero.
    step : float
        How far both sides are from the weights, as a share of their norm. Where a ReLU switches in between,
        the slope's change counts, which automatic differentiation leaves out.

    Returns
    -------
    Tensor [..., D, members]
        In float64; the error is of second order in ``step``.
    """
    along = direction.double()
    scale = step * weights.double().norm(dim=-2, keepdim=True) / along.norm(dim=-2, keepdim=True)
    ahead, behind = ((weights.double() + sign * scale * along).to(weights.dtype) for sign in (1.0, -1.0))
    product: Tensor = (gradient(ahead) - gradient(behind)) / (2.0 * scale)
    return product


def hessian_trace(gradient: Gradient, weights: Tensor, probes: Iterable[Tensor], step: float) -> Tensor:
    """Return the trace of the Hessian [..., members], the mean of ``v^T H v`` over probes.

    Parameters
    ----------
    gradient, weights, step
        As in `hessian_product`.
    probes : iterable of Tensor [..., D, members]
        At least one, of elements +1 and -1 that are independent.

    Notes
    -----
    Hutchinson's estimate: without bias, of variance ``2 sum_{i != j} H_ij^2`` for each probe. On a sphere of
    radius 1 the trace for a scale-invariant loss is its Laplacian there.
    """
    values = [(probe * hessian_product(gradient, weights, probe, step)).sum(dim=-2) for probe in probes]
    return torch.stack(values).mean(dim=0)


def largest_curvature(
    gradient: Gradient, weights: Tensor, start: Tensor, iterations: int, step: float
) -> Tensor:
    """Return the Hessian's eigenvalue of the largest magnitude [..., members], by power iteration.

    Parameters
    ----------
    gradient, weights, step
        As in `hessian_product`.
    start : Tensor [..., D, members]
        Not orthogonal to its eigenvector.
    iterations : int
        How many products with the Hessian, at least one; the result is the last Rayleigh quotient, below the
        eigenvalue until they are enough.
    """
    direction = start.double()
    for _ in range(iterations):
        unit = direction / direction.norm(dim=-2, keepdim=True)
        direction = hessian_product(gradient, weights, unit, step)
    quotient: Tensor = (unit * direction).sum(dim=-2)
    return quotient


def batch_sharpness(gradients: Iterable[Gradient], weights: Tensor, step: float) -> Tensor:
    """Return the mean curvature of minibatches' losses along their gradients, [..., members].

    Parameters
    ----------
    gradients : iterable of Gradient
        At least one: the gradient of each minibatch's loss.
    weights, step
        As in `hessian_product`.

    Returns
    -------
    Tensor [..., members]
        ``sum g^T H_B g / sum |g|^2`` over minibatches B with gradients g; NaN where all of these vanish. A
        step of SGD with 2 over it for a learning rate does not change the mean loss of its own minibatch.

    Notes
    -----
    Source: Andreyev and Beneventano 2024.
    """
    curved, squared = zip(*(_along_own_gradient(one, weights, step) for one in gradients), strict=True)
    sharpness: Tensor = torch.stack(curved).sum(dim=0) / torch.stack(squared).sum(dim=0)
    return sharpness


def _along_own_gradient(gradient: Gradient, weights: Tensor, step: float) -> tuple[Tensor, Tensor]:
    own = gradient(weights)
    squared = own.square().sum(dim=-2)
    direction = torch.where(squared[..., None, :] > 0.0, own, torch.ones_like(own))
    curved = (own * hessian_product(gradient, weights, direction, step)).sum(dim=-2)
    return curved, squared
