"""The kernels as functions of tensors or arrays, registered as torch custom operators.

Each function checks its arguments, works on torch tensors and numpy arrays (which share their memory)
and returns the kind that it was given. A kernel runs on the tensor's device, on as many threads as
`torch.get_num_threads` says, and gives the same bits for any number of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack

from pythermo import _core
from pythermo._checks import (
    FLOAT_DTYPES,
    as_tensor,
    like_input,
    require_ks,
    require_points,
    require_positive,
)

# The capsule of a tensor, without the seven-fold overhead of Tensor.__dlpack__.
_to_dlpack = torch.utils.dlpack.to_dlpack  # type: ignore[attr-defined]

_library = torch.library.Library("pythermo", "DEF")

_Step = Callable[[torch.Tensor, torch.Tensor, float, float], None]


def _register_step(name: str, kernel: Callable[..., None]) -> _Step:
    """Register a step kernel as the operator ``pythermo::name`` and return a function that runs it."""
    _library.define(f"{name}(Tensor(a!) weights, Tensor grad, float lr, float radius) -> ()")

    def on_cpu(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> None:
        kernel(_to_dlpack(weights), _to_dlpack(grad), lr, radius, torch.get_num_threads())
        # A graph that saved the old values must not be gone back through with the new ones.
        if not weights.is_inference():
            torch.autograd.graph.increment_version(weights)

    def fake(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> None:
        return None

    def no_derivative(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> None:
        _refuse_derivative(name, weights, grad)
        with torch._C._AutoDispatchBelowAutograd():
            operator(weights, grad, lr, radius)

    _library.impl(name, on_cpu, "CPU")
    _library.impl(name, no_derivative, "Autograd")
    torch.library.register_fake(f"pythermo::{name}", fake, lib=_library)
    operator = getattr(torch.ops.pythermo, name).default

    def run(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> None:
        # On small vectors torch's dispatcher takes as long as the step: plain tensors do without.
        if type(weights) is torch.Tensor and weights.is_cpu and not torch.compiler.is_compiling():
            _refuse_derivative(name, weights, grad)
            on_cpu(weights, grad, lr, radius)
        else:
            operator(weights, grad, lr, radius)

    return run


def _refuse_derivative(name: str, weights: torch.Tensor, grad: torch.Tensor) -> None:
    if (weights.requires_grad or grad.requires_grad) and torch.is_grad_enabled():
        raise RuntimeError(
            f"{name}: the step has no derivative; call it under torch.no_grad() or with detached tensors"
        )


_projected_step = _register_step("projected_sgd_step_", _core.projected_sgd_step)
_exponential_step = _register_step("exponential_sgd_step_", _core.exponential_sgd_step)


def _checked_step(step: _Step, weights: Any, grad: Any, lr: float, radius: float) -> Any:
    """Check what the kernel does not, make the step in place and return ``weights`` as given."""
    if isinstance(weights, np.ndarray) and not weights.flags.writeable:
        raise ValueError("weights: must be writeable, for the step is made in place")
    w, g = as_tensor("weights", weights), as_tensor("grad", grad)
    _check_vectors(w, g)
    step(w, g, require_positive("lr", lr), require_positive("radius", radius))
    return weights


def _check_vectors(weights: torch.Tensor, grad: torch.Tensor) -> None:
    if weights.dtype not in FLOAT_DTYPES:
        raise TypeError(f"weights: the dtype must be float32 or float64, not {weights.dtype}")
    if grad.dtype is not weights.dtype:
        raise TypeError(f"grad: the dtype must be that of weights, {weights.dtype}, not {grad.dtype}")
    if grad.is_sparse:
        raise TypeError("grad: must be dense, not sparse")
    if weights.ndim != 1 or weights.shape != grad.shape:
        raise ValueError(
            "weights and grad: both must have the same shape [D], "
            f"not {list(weights.shape)} and {list(grad.shape)}"
        )
    if not (weights.is_contiguous() and grad.is_contiguous()):
        raise ValueError("weights and grad: both must be contiguous")
    if weights.device != grad.device:
        raise ValueError(f"grad: must lie on the device of weights, {weights.device}, not {grad.device}")
    if not weights.is_cpu and not weights.is_meta:
        raise ValueError(f"weights: no kernel for the device {weights.device}; the CPU has one")


def projected_sgd_step_(weights: Any, grad: Any, lr: float, radius: float = 1.0) -> Any:
    """Make one step of projected SGD in place: ``w <- radius * v / |v|`` with ``v = w - lr * grad``.

    Two passes over memory: the first reads weights and gradient and finds |v|, the second reads both
    again and writes the new weights. The first pass writes nothing, so a bad input is refused with the
    weights untouched, and that check costs no pass of its own. A gradient that is zero everywhere
    leaves the weights exactly as they are.

    Float32 vectors of 2^22 elements and more, which come from memory and not from a cache, are read
    three times instead of four: the first pass reads the gradient alone, and checks it; the second
    writes the weights with the norm that |v| has for weights on the sphere and a gradient tangent to
    it, which that of a scale-invariant loss is, and finds the true |v|; if the two differ by more than
    2^-24, a third pass corrects the weights. Weights that were not finite before are refused then,
    but may have changed.

    Parameters
    ----------
    weights : Tensor or array [D]
        A point other than the origin, usually of norm ``radius``; float32 or float64, contiguous.
        Overwritten.
    grad : Tensor or array [D]
        The gradient there, of the same dtype and device; not changed.
    lr : float
        Learning rate, positive. On a sphere of radius r the effective one is ``lr / r**2``.
    radius : float
        Radius of the sphere, positive.

    Returns
    -------
    Tensor or array [D]
        ``weights`` itself.

    Raises
    ------
    ValueError
        For a NaN or infinite element (named by its index), weights that are all zero, a step that ends
        at the origin, ``lr`` or ``radius`` that are not positive, shapes that differ, no contiguity.
    TypeError
        For another dtype, a sparse gradient, or something that is neither tensor nor array.

    Notes
    -----
    In float32 the squares are added up in short float32 runs and these in float64: the norm of the
    result is ``radius`` to 2e-7. Source: arXiv 2505.23489.
    """
    return _checked_step(_projected_step, weights, grad, lr, radius)


def exponential_sgd_step_(weights: Any, grad: Any, lr: float, radius: float = 1.0) -> Any:
    """Make one Riemannian SGD step in place: along a great circle by the arc length ``lr * |t|``.

    Here t is the part of the gradient that is tangent to the sphere at the weights; the new weights are
    ``radius * (cos(a) w/|w| - sin(a) t/|t|)`` with the angle ``a = lr * |t| / radius``. It agrees with
    `projected_sgd_step_` to second order in ``lr``. In floating point a gradient whose radial part is c
    times its tangent part, which that of a scale-invariant loss has not, costs log10(c) digits.

    Parameters, results, errors and passes over memory are those of `projected_sgd_step_`. Source:
    arXiv 2505.23489; the retraction is the exponential map of the sphere.
    """
    return _checked_step(_exponential_step, weights, grad, lr, radius)


# Squares are added up in the points' own precision over this many coordinates, and in float64 beyond:
# with 16 vector lanes the float32 error of such a part is below 16 * 2^-24 = 1e-6, without a sign.
_COORDINATES_PER_PART = 256


def _all_distances(points: torch.Tensor) -> torch.Tensor:
    """Return the distances [n, n] of points [n, D] in float64: differences first, then squares."""
    n, dim = points.shape
    squared = torch.zeros(n * (n - 1) // 2, dtype=torch.float64, device=points.device)
    for start in range(0, dim, _COORDINATES_PER_PART):
        part = points[:, start : start + _COORDINATES_PER_PART].contiguous()
        squared += torch.pdist(part).to(torch.float64).square_()
    distances = torch.zeros(n, n, dtype=torch.float64, device=points.device)
    rows, columns = torch.triu_indices(n, n, offset=1, device=points.device)
    distances[rows, columns] = squared.sqrt_()
    distances[columns, rows] = distances[rows, columns]
    return distances


def _sorted_distances(points: torch.Tensor) -> torch.Tensor:
    """Return the distances [n, n - 1] from each point [n, D] to the others, ascending."""
    distances = _all_distances(points)
    distances.fill_diagonal_(-1.0)  # oneself, sorted to the front even among duplicates
    return distances.sort(dim=1).values[:, 1:]


def _per_cloud(points: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a function of one cloud [n, D] to each of a batch [..., n, D]."""
    batch = points.shape[:-2]
    clouds = points.detach().reshape(-1, *points.shape[-2:])
    # The shape of a result is found on a small cloud where the batch is empty.
    results = [function(cloud) for cloud in clouds] or [function(points.new_zeros(points.shape[-2:]))]
    stacked = torch.stack(results)[: len(clouds)]
    return stacked.reshape(*batch, *stacked.shape[1:])


def knn_distances(points: Any, k: int) -> Any:
    """Return the distances from each point to its ``k`` nearest other points, ascending.

    Exact to rounding: differences are taken first and squared then, so that points 1e-7 apart at
    norm 1 keep their distance. A point is not its own neighbour; a duplicate is one, at distance 0.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite.
    k : int
        Number of neighbours, from 1 to n - 1.

    Returns
    -------
    Tensor or array [..., n, k]
        In float64.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape, dtype, ``k``, or a row that is not finite.

    Notes
    -----
    All n(n - 1)/2 distances of a cloud are held in memory, at some 50 bytes each: meant for n up to some
    thousand. No derivative: the result is detached.
    """
    tensor = as_tensor("points", points)
    require_points(tensor)
    (k,) = require_ks([k], tensor.shape[-2])
    return like_input(_per_cloud(tensor, lambda cloud: _sorted_distances(cloud)[:, :k]), points)


def knn_distance_sums(points: Any, ks: Sequence[int], gamma: float = 1.0) -> Any:
    """Return the lengths L_k of the k-nearest-neighbour graphs of a cloud, for all ``ks`` in one pass.

    ``L_k = sum_i sum_{j=1..k} rho_ij ** gamma`` with rho_ij the distance from point i to its j-th
    nearest other point.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite.
    ks : sequence of int
        Numbers of neighbours, each from 1 to n - 1, in any order.
    gamma : float
        Power of the distance, positive.

    Returns
    -------
    Tensor or array [..., len(ks)]
        In float64, in the order of ``ks``.

    Raises
    ------
    ValueError, TypeError
        As `knn_distances`, and for ``gamma`` that is not positive.

    Notes
    -----
    Source: Costa and Hero 2004; arXiv 2505.23489. Memory and
    derivative as in `knn_distances`.
    """
    tensor = as_tensor("points", points)
    require_points(tensor)
    values = require_ks(ks, tensor.shape[-2])
    gamma = require_positive("gamma", gamma)
    columns = torch.tensor(values, device=tensor.device) - 1

    def lengths(cloud: torch.Tensor) -> torch.Tensor:
        by_rank = _sorted_distances(cloud).pow_(gamma).sum(dim=0)
        return by_rank.cumsum(dim=0)[columns]

    return like_input(_per_cloud(tensor, lengths), points)
