"""The kernels as functions of tensors or arrays, registered as torch custom operators.

Each function checks its arguments, works on torch tensors and numpy arrays (which share their memory)
and returns the kind that it was given. A kernel runs on the tensor's device, on as many threads as
`torch.get_num_threads` says, and gives the same bits for any number of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pythermo._backends import BACKENDS, BadRow, backend_of
from pythermo._checks import (
    FLOAT_DTYPES,
    as_tensor,
    like_input,
    require_float,
    require_ks,
    require_points,
    require_positive,
)

_library = torch.library.Library("pythermo", "DEF")

_Step = Callable[[torch.Tensor, torch.Tensor, float, float, torch.Tensor | None], None]


def _register_step(name: str) -> _Step:
    """Register a step kernel as the operator ``pythermo::name_`` and return a function that runs it."""
    _library.define(
        f"{name}_(Tensor(a!) weights, Tensor grad, float lr, float radius, Tensor? lr_on_device=None) -> ()"
    )

    def on_device(
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float,
        radius: float,
        lr_on_device: torch.Tensor | None = None,
    ) -> None:
        BACKENDS[weights.device.type].step(name, weights, grad, lr, radius, lr_on_device)
        # A graph that saved the old values must not be gone back through with the new ones.
        if not weights.is_inference():
            torch.autograd.graph.increment_version(weights)

    def fake(
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float,
        radius: float,
        lr_on_device: torch.Tensor | None = None,
    ) -> None:
        return None

    def no_derivative(
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float,
        radius: float,
        lr_on_device: torch.Tensor | None = None,
    ) -> None:
        _refuse_derivative(f"{name}_", weights, grad)
        with torch._C._AutoDispatchBelowAutograd():
            operator(weights, grad, lr, radius, lr_on_device)

    for key in ("CPU", "CUDA"):
        _library.impl(f"{name}_", on_device, key)
    _library.impl(f"{name}_", no_derivative, "Autograd")
    torch.library.register_fake(f"pythermo::{name}_", fake, lib=_library)
    operator = getattr(torch.ops.pythermo, f"{name}_").default

    def run(
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float,
        radius: float,
        lr_on_device: torch.Tensor | None = None,
    ) -> None:
        # On small vectors torch's dispatcher takes as long as the step: plain tensors do without.
        if type(weights) is torch.Tensor and not weights.is_meta and not torch.compiler.is_compiling():
            _refuse_derivative(f"{name}_", weights, grad)
            on_device(weights, grad, lr, radius, lr_on_device)
        else:
            operator(weights, grad, lr, radius, lr_on_device)

    return run


def _refuse_derivative(name: str, weights: torch.Tensor, grad: torch.Tensor) -> None:
    if (weights.requires_grad or grad.requires_grad) and torch.is_grad_enabled():
        raise RuntimeError(
            f"{name}: the step has no derivative; call it under torch.no_grad() or with detached tensors"
        )


_projected_step = _register_step("projected_sgd_step")
_exponential_step = _register_step("exponential_sgd_step")


def _checked_step(step: _Step, weights: Any, grad: Any, lr: float | torch.Tensor, radius: float) -> Any:
    """Check what the kernel does not, make the step in place and return ``weights`` as given."""
    if isinstance(weights, np.ndarray) and not weights.flags.writeable:
        raise ValueError("weights: must be writeable, for the step is made in place")
    w, g = as_tensor("weights", weights), as_tensor("grad", grad)
    _check_vectors(w, g)
    radius = require_positive("radius", radius)
    if isinstance(lr, torch.Tensor) and lr.device == w.device and not w.is_cpu:
        if lr.numel() != 1:
            raise ValueError(f"lr: must be one number, not a tensor of shape {list(lr.shape)}")
        step(w, g, 0.0, radius, lr.detach().double().reshape(1))
    else:
        step(w, g, require_positive("lr", lr), radius, None)
    return weights


def raise_failed_steps(device: torch.device | str) -> None:
    """Wait for the steps made on a device, and raise what went wrong with them.

    On a CUDA device a step does not wait: where it fails, the weights stay as they were and all further
    steps go on from there. Call this where the host waits anyway, at a measurement. On the CPU a step
    raises itself.

    Parameters
    ----------
    device : torch.device or str
        Whose steps.

    Raises
    ------
    ValueError
        If a step has failed since this was called last: for elements that are not finite, weights that
        are all zero, a step that ends at the origin, a learning rate that is not positive.
    """
    where = torch.device(device)
    if str(where) == "cuda" and torch.cuda.is_available():
        where = torch.device("cuda", torch.cuda.current_device())
    if where.type in BACKENDS:
        BACKENDS[where.type].raise_failed_steps(where)


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
    if not weights.is_meta:
        backend_of("weights", weights)


def projected_sgd_step_(weights: Any, grad: Any, lr: float | torch.Tensor, radius: float = 1.0) -> Any:
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
    lr : float or Tensor [] or [1]
        Learning rate, positive. On a sphere of radius r the effective one is ``lr / r**2``. A tensor on the
        weights' CUDA device is read there.
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


def exponential_sgd_step_(weights: Any, grad: Any, lr: float | torch.Tensor, radius: float = 1.0) -> Any:
    """Make one Riemannian SGD step in place: along a great circle by the arc length ``lr * |t|``.

    Here t is the part of the gradient that is tangent to the sphere at the weights; the new weights are
    ``radius * (cos(a) w/|w| - sin(a) t/|t|)`` with the angle ``a = lr * |t| / radius``. It agrees with
    `projected_sgd_step_` to second order in ``lr``. In floating point a gradient whose radial part is c
    times its tangent part, which that of a scale-invariant loss has not, costs log10(c) digits.

    Parameters, results, errors and passes over memory are those of `projected_sgd_step_`. Source:
    arXiv 2505.23489; the retraction is the exponential map of the sphere.
    """
    return _checked_step(_exponential_step, weights, grad, lr, radius)


def _as_clouds(points: torch.Tensor) -> torch.Tensor:
    """Return points [..., n, D] as [clouds, n, D] whose rows are contiguous, without a copy if they are."""
    if points.stride(-1) != 1 and points.shape[-1] > 1:
        points = points.contiguous()
    clouds = math.prod(points.shape[:-2])
    return points.detach().reshape(clouds, *points.shape[-2:])


def _refuse(bad: BadRow, points: torch.Tensor) -> None:
    if bad is not None:
        cloud, point = bad
        batch = np.unravel_index(cloud, points.shape[:-2]) if points.ndim > 2 else ()
        row = [*map(int, batch), point]
        raise ValueError(f"points: row {row} holds NaN or infinity; all elements must be finite")


_DEVICES = ("cpu", "cuda")


@torch.library.custom_op("pythermo::knn_distances", mutates_args=(), device_types=_DEVICES)
def _knn_distances(points: torch.Tensor, k: int) -> torch.Tensor:
    distances = points.new_empty((*points.shape[:-1], k), dtype=torch.float64)
    _run_knn(points, k, distances, None)
    return distances


@_knn_distances.register_fake
def _(points: torch.Tensor, k: int) -> torch.Tensor:
    return points.new_empty((*points.shape[:-1], k), dtype=torch.float64)


@torch.library.custom_op("pythermo::nearest_neighbours", mutates_args=(), device_types=_DEVICES)
def _nearest_neighbours(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    distances = points.new_empty((*points.shape[:-1], k), dtype=torch.float64)
    indices = points.new_empty((*points.shape[:-1], k), dtype=torch.int64)
    _run_knn(points, k, distances, indices)
    return distances, indices


@_nearest_neighbours.register_fake
def _(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*points.shape[:-1], k)
    return points.new_empty(shape, dtype=torch.float64), points.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("pythermo::knn_distance_sums", mutates_args=(), device_types=_DEVICES)
def _knn_distance_sums(points: torch.Tensor, ks: Sequence[int], gamma: float) -> torch.Tensor:
    sums = points.new_empty((*points.shape[:-2], len(ks)), dtype=torch.float64)
    backend = BACKENDS[points.device.type]
    _refuse(backend.knn_distance_sums(_as_clouds(points), ks, gamma, sums.view(-1)), points)
    return sums


@_knn_distance_sums.register_fake
def _(points: torch.Tensor, ks: Sequence[int], gamma: float) -> torch.Tensor:
    return points.new_empty((*points.shape[:-2], len(ks)), dtype=torch.float64)


def _run_knn(points: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor | None) -> None:
    which = None if indices is None else indices.view(-1)
    backend = BACKENDS[points.device.type]
    _refuse(backend.knn_distances(_as_clouds(points), k, distances.view(-1), which), points)


def _checked_points(points: Any) -> torch.Tensor:
    if isinstance(points, np.ndarray) and min(points.strides, default=0) < 0:
        points = points.copy()  # torch has no negative strides
    tensor = as_tensor("points", points)
    require_points(tensor)
    if not tensor.is_meta:
        backend_of("points", tensor)
    return tensor


def knn_distances(points: Any, k: int) -> Any:
    """Return the distances from each point to its ``k`` nearest other points, ascending.

    Exact to rounding: differences are taken first and squared then, so that points 1e-7 apart at
    norm 1 keep their distance. A point is not its own neighbour; a duplicate is one, at distance 0.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite. Any n, D and batch, also none. Views are read in
        place where each point's coordinates lie side by side, and copied otherwise.
    k : int
        Number of neighbours, from 1 to n - 1.

    Returns
    -------
    Tensor or array [..., n, k]
        In float64.

    Raises
    ------
    ValueError
        For a wrong shape or ``k``, a row that is not finite (named), or points farther apart than 1e154.
    TypeError
        For another dtype: float16 and bfloat16 lose more digits than a distance has, widen them knowingly.

    Notes
    -----
    Relative error at most 1e-6 for float32, of no common sign and some 1e-8 typically, and 1e-14 for
    float64, whatever the spread: squares are added up in float32 over runs of 29 in each vector lane and
    in float64 beyond, or in float64 throughout. Where float32 would underflow or overflow, float64 is
    used. Float64 differences below 1e-154 count as 0.

    Up to 16 coordinates, points are sorted into boxes, and only boxes that may hold a neighbour are looked
    into: n log n for few coordinates, n^2 for many. Beyond, each pair's distance is computed once, in
    blocks that stay in the cache. Memory, beside the result: n * (2 k + 80) numbers in float64 at most. The
    same bits for any number of threads.
    """
    tensor = _checked_points(points)
    (k,) = require_ks([k], tensor.shape[-2], "k")
    return like_input(_knn_distances(tensor, k), points)


def nearest_neighbours(points: Any, k: int) -> tuple[Any, Any]:
    """Return the distances from each point to its ``k`` nearest other points, and which these are.

    Of points at the same distance, those of lower index come first. Parameters, errors and precision are
    those of `knn_distances`.

    Returns
    -------
    distances : Tensor or array [..., n, k]
        Ascending, in float64.
    indices : Tensor or array [..., n, k]
        Of the neighbours within their cloud, in int64.
    """
    tensor = _checked_points(points)
    (k,) = require_ks([k], tensor.shape[-2], "k")
    distances, indices = _nearest_neighbours(tensor, k)
    return like_input(distances, points), like_input(indices, points)


def knn_distance_sums(points: Any, ks: Sequence[int], gamma: float = 1.0) -> Any:
    """Return the lengths L_k of the k-nearest-neighbour graphs of a cloud, for all ``ks`` in one pass.

    ``L_k = sum_i sum_{j=1..k} rho_ij ** gamma`` with rho_ij the distance from point i to its j-th
    nearest other point.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        As in `knn_distances`, whose precision and errors hold here too.
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
    Source: Costa and Hero 2004; arXiv 2505.23489.
    """
    tensor = _checked_points(points)
    values = require_ks(ks, tensor.shape[-2])
    distinct = sorted(set(values))
    sums = _knn_distance_sums(tensor, distinct, require_positive("gamma", gamma))
    return like_input(sums[..., [distinct.index(k) for k in values]], points)


def update_squared_distances_(matrix: torch.Tensor, points: torch.Tensor, first: int, changed: int) -> None:
    """Bring a matrix of squared distances up to date after some points have changed, in place.

    Parameters
    ----------
    matrix : Tensor [n, n]
        Squared distances in float64, with infinity on the diagonal; contiguous.
    points : Tensor [n, D]
        float32 or float64, their coordinates side by side.
    first, changed : int
        The points ``first`` to ``first + changed - 1`` have changed. ``0, n`` fills the matrix.

    Raises
    ------
    ValueError
        For wrong shapes, or a changed row that is not finite (named).
    """
    require_points(points)
    if matrix.device != points.device:
        raise ValueError(f"matrix: must lie on the device of points, {points.device}, not {matrix.device}")
    backend = backend_of("points", points)
    bad = backend.update_squared_distances(_as_clouds(points[None]), first, changed, matrix.view(-1))
    _refuse(bad and (0, bad[1]), points)


def matrix_distance_sums(
    matrix: torch.Tensor, ks: Sequence[int], without: int = 0, without_end: int = 0
) -> torch.Tensor:
    """Return the lengths L_k of `knn_distance_sums` from a matrix of squared distances.

    Parameters
    ----------
    matrix : Tensor [n, n]
        As in `update_squared_distances_`.
    ks : sequence of int
        Numbers of neighbours among the points that are not left out, in any order.
    without, without_end : int
        Leave out the points ``without`` to ``without_end - 1``.

    Returns
    -------
    Tensor [len(ks)]
        In float64.
    """
    values = require_ks(ks, len(matrix) - (without_end - without))
    distinct = sorted(set(values))
    sums = matrix.new_empty(len(distinct))
    without_range = range(without, without_end)
    backend_of("matrix", matrix).matrix_distance_sums(matrix.view(-1), distinct, without_range, sums)
    return sums[[distinct.index(k) for k in values]]


def sketch(weights: Any, size: int, seed: int = 0) -> Any:
    """Return a random projection of a vector to fewer numbers, which keeps squared distances on average.

    Each weight is added to one of ``size`` sums with a random sign: a sparse Johnson-Lindenstrauss
    transform (count sketch), one pass over the weights. The squared distance of two sketches of the same
    seed has the mean of that of the vectors and a relative standard deviation of at most sqrt(2 / size)
    over seeds, if no few coordinates dominate.

    Parameters
    ----------
    weights : Tensor or array [D]
        float32 or float64, contiguous.
    size : int
        Number of sums, from 1 to 2^31.
    seed : int
        Signs and sums are a function of seed, D's place and size: the same on every machine.

    Returns
    -------
    Tensor or array [size]
        In float64: differences of sketches are as exact as those of the weights.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape, dtype or size.

    Notes
    -----
    Source: Charikar et al. 2002; Weinberger et al. 2009.
    """
    tensor = as_tensor("weights", weights)
    if tensor.dtype not in FLOAT_DTYPES:
        raise TypeError(f"weights: the dtype must be float32 or float64, not {tensor.dtype}")
    if tensor.ndim != 1 or not tensor.is_contiguous():
        raise ValueError(f"weights: must have the shape [D] and be contiguous, not {list(tensor.shape)}")
    if size != int(size) or not 1 <= size <= 2**31:
        raise ValueError(f"size: must be an integer from 1 to 2^31, not {size}")
    sums = tensor.new_empty(int(size), dtype=torch.float64)
    backend_of("weights", tensor).sketch(tensor.detach(), sums, seed)
    return like_input(sums, weights)


@torch.library.custom_op("pythermo::gradient_sums_", mutates_args=("total",), device_types=("cpu", "cuda"))
def _gradient_sums_(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    return BACKENDS[grad.device.type].gradient_sums(grad, center, total)


@_gradient_sums_.register_fake
def _(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    return grad.new_empty(2, dtype=torch.float64)


def gradient_sums_(
    grad: torch.Tensor, center: torch.Tensor | None = None, total: torch.Tensor | None = None
) -> torch.Tensor:
    """Return |g|^2 and |g - center|^2 of a gradient in one pass over it, which may also add it to a total.

    Parameters
    ----------
    grad : Tensor [D]
        A stochastic gradient g; float32 or float64, contiguous.
    center : Tensor [D], optional
        What its noise is measured from, in float64 and contiguous; 0 if not given.
    total : Tensor [D], optional
        In float64 and contiguous; g is added to it in place.

    Returns
    -------
    Tensor [2]
        In float64 on the gradient's device, which nothing waits for. Not finite where the gradient is not.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes or devices that do not fit.

    Notes
    -----
    The numbers of the signal-to-noise ratio (`pythermo.gradient_noise`), added up in float64.
    """
    require_float("grad", grad)
    if grad.ndim != 1 or not grad.is_contiguous():
        raise ValueError(f"grad: must have the shape [D] and be contiguous, not {list(grad.shape)}")
    if not grad.is_meta:
        backend_of("grad", grad)
    for name, other in (("center", center), ("total", total)):
        if other is None:
            continue
        if other.dtype is not torch.float64:
            raise TypeError(f"{name}: the dtype must be float64, not {other.dtype}")
        if other.shape != grad.shape or other.device != grad.device or not other.is_contiguous():
            raise ValueError(
                f"{name}: must have the shape {list(grad.shape)} on {grad.device} and be contiguous, "
                f"not {list(other.shape)} on {other.device}"
            )
    none = grad.new_empty(0, dtype=torch.float64)
    sums: torch.Tensor = _gradient_sums_(
        grad.detach(), none if center is None else center, none if total is None else total
    )
    return sums
