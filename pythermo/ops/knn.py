"""Distances to nearest neighbors and the lengths of their graphs, exact at any spread."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pythermo import _core
from pythermo._checks import (
    as_tensor_to_read,
    as_tensor_to_write,
    like_input,
    require_integer,
    require_k,
    require_ks,
    require_points,
    require_positive,
)
from pythermo.ops._backends import CUDA, KERNELS, capsules, kernel, kernel_for, stream_of

# A row of points that is not finite: the indices of its cloud and its point.
BadRow = tuple[int, int] | None

# --- the kernels ------------------------------------------------------------------------------------------
# Of clouds [c, n, D], with results in flat arrays. A signal stops those of the CPU; CUDA's are waited for.


@kernel("cpu", "knn_distances")
def _(clouds: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor) -> BadRow:
    bad: BadRow = _core.knn_distances(*capsules(clouds, k, distances, indices), torch.get_num_threads())
    return bad


@kernel("cuda", "knn_distances")
def _(clouds: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor) -> BadRow:
    return _on_cuda("knn_distances", _workspace_size(clouds, k, 0), clouds, k, distances, indices)


@kernel("cpu", "knn_distance_sums")
def _(clouds: torch.Tensor, ks: Sequence[int], gamma: float, sums: torch.Tensor) -> BadRow:
    tensors = capsules(clouds, list(ks), gamma, sums)
    bad: BadRow = _core.knn_distance_sums(*tensors, torch.get_num_threads())
    return bad


@kernel("cuda", "knn_distance_sums")
def _(clouds: torch.Tensor, ks: Sequence[int], gamma: float, sums: torch.Tensor) -> BadRow:
    size = _workspace_size(clouds, max(ks), len(ks))
    return _on_cuda("knn_distance_sums", size, clouds, list(ks), gamma, sums)


@kernel("cpu", "update_squared_distances")
def _(clouds: torch.Tensor, first: int, changed: int, matrix: torch.Tensor) -> BadRow:
    tensors = capsules(clouds, first, changed, matrix)
    bad: BadRow = _core.update_squared_distances(*tensors, torch.get_num_threads())
    return bad


@kernel("cuda", "update_squared_distances")
def _(clouds: torch.Tensor, first: int, changed: int, matrix: torch.Tensor) -> BadRow:
    size = CUDA.native.knn_update_workspace_size(clouds.shape[1], changed, clouds.shape[2])
    return _on_cuda("update_squared_distances", size, clouds, first, changed, matrix)


@kernel("cpu", "matrix_distance_sums")
def _(matrix: torch.Tensor, ks: Sequence[int], without: range, sums: torch.Tensor) -> None:
    span = without.start, without.stop
    _core.matrix_distance_sums(*capsules(matrix, list(ks), 1.0, *span, sums), torch.get_num_threads())


@kernel("cuda", "matrix_distance_sums")
def _(matrix: torch.Tensor, ks: Sequence[int], without: range, sums: torch.Tensor) -> None:
    left = math.isqrt(len(matrix)) - len(without)
    size = CUDA.native.knn_matrix_workspace_size(left, max(ks), len(ks), CUDA.longest_sorted)
    _on_cuda("matrix_distance_sums", size, matrix, list(ks), 1.0, without.start, without.stop, sums)


def _workspace_size(clouds: torch.Tensor, k: int, ks: int) -> int:
    size: int = CUDA.native.knn_workspace_size(
        *clouds.shape, k, ks, CUDA.longest_sorted, CUDA.workspace_bytes
    )
    return size


def _on_cuda(name: str, size: int, tensor: torch.Tensor, *arguments: Any) -> BadRow:
    """Run a kernel with a workspace of that size; return or raise what was wrong with the points."""
    native, device = CUDA.native, tensor.device
    with torch.cuda.device_of(tensor):
        workspace = torch.empty(size, dtype=torch.float64, device=device)
        status = torch.full((1,), native.knn_fine, dtype=torch.int64, device=device)
        launch = native.KnnArguments(
            *capsules(workspace, status), stream_of(tensor), CUDA.threads, CUDA.longest_sorted
        )
        getattr(native, name)(*capsules(tensor, *arguments), launch)
    found = int(status)
    if found == native.knn_too_far_apart:
        raise ValueError("points: too far apart, their squared distances overflow")
    return None if found == native.knn_fine else divmod(found, tensor.shape[-2])


# --- the operators ------------------------------------------------------------------------------------------


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
    _find(points, k, distances, points.new_empty(0, dtype=torch.int64))
    return distances


@_knn_distances.register_fake
def _(points: torch.Tensor, k: int) -> torch.Tensor:
    return points.new_empty((*points.shape[:-1], k), dtype=torch.float64)


@torch.library.custom_op("pythermo::nearest_neighbors", mutates_args=(), device_types=_DEVICES)
def _nearest_neighbors(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    distances = points.new_empty((*points.shape[:-1], k), dtype=torch.float64)
    indices = points.new_empty((*points.shape[:-1], k), dtype=torch.int64)
    _find(points, k, distances, indices)
    return distances, indices


@_nearest_neighbors.register_fake
def _(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*points.shape[:-1], k)
    return points.new_empty(shape, dtype=torch.float64), points.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("pythermo::knn_distance_sums", mutates_args=(), device_types=_DEVICES)
def _knn_distance_sums(points: torch.Tensor, ks: Sequence[int], gamma: float) -> torch.Tensor:
    sums = points.new_empty((*points.shape[:-2], len(ks)), dtype=torch.float64)
    run = KERNELS[points.device.type, "knn_distance_sums"]
    if points.numel() > 0:
        _refuse(run(_as_clouds(points), ks, gamma, sums.view(-1)), points)
    return sums


@_knn_distance_sums.register_fake
def _(points: torch.Tensor, ks: Sequence[int], gamma: float) -> torch.Tensor:
    return points.new_empty((*points.shape[:-2], len(ks)), dtype=torch.float64)


def _find(points: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor) -> None:
    run = KERNELS[points.device.type, "knn_distances"]
    if points.numel() > 0:
        _refuse(run(_as_clouds(points), k, distances.view(-1), indices.view(-1)), points)


def _checked_points(points: Any) -> torch.Tensor:
    tensor = as_tensor_to_read("points", points)
    require_points(tensor)
    if not tensor.is_meta:
        kernel_for("knn_distances", "points", tensor)
    return tensor


def _flat_matrix(matrix: torch.Tensor) -> torch.Tensor:
    if matrix.dtype is not torch.float64:
        raise TypeError(f"matrix: the dtype must be float64, not {matrix.dtype}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.is_contiguous():
        raise ValueError(
            f"matrix: must have the shape [n, n] and be contiguous, not {list(matrix.shape)} "
            f"with the strides {list(matrix.stride())}"
        )
    return matrix.view(-1)


def _require_span(name: str, first: int, count: int, points: int) -> None:
    if count > points - first:
        raise ValueError(
            f"{name}: goes from {first} to {first + count - 1} of {points} points, beyond the last"
        )


def knn_distances(points: Any, k: int) -> Any:
    """Return the distances from each point to its ``k`` nearest other points, ascending.

    Exact to rounding: differences are taken first and squared then, so that points 1e-7 apart at
    norm 1 keep their distance. A point is not its own neighbor; a duplicate is one, at distance 0.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite. Any n >= 2, D >= 1 and batch, also
        one of no clouds. Views are read in place where each point's coordinates lie side by side, and copied
        otherwise.
    k : int
        Number of neighbors, from 1 to n - 1.

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

    Up to 16 coordinates, points are sorted into boxes, and only boxes that may hold a neighbor are looked
    into: n log n for few coordinates, n^2 for many. Beyond, each pair's distance is computed once, in
    blocks that stay in the cache. Memory, beside the result: n * (2 k + 80) numbers in float64 at most. The
    same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> knn_distances(np.array([[0.0], [1.0], [3.0]]), 2)
    array([[1., 3.],
           [1., 2.],
           [2., 3.]])
    """
    tensor = _checked_points(points)
    k = require_k(k, tensor.shape[-2])
    return like_input(_knn_distances(tensor, k), points)


def nearest_neighbors(points: Any, k: int) -> tuple[Any, Any]:
    """Return the distances from each point to its ``k`` nearest other points, and which these are.

    Of points at the same distance, those of lower index come first. Parameters, errors and precision are
    those of `knn_distances`.

    Returns
    -------
    distances : Tensor or array [..., n, k]
        Ascending, in float64.
    indices : Tensor or array [..., n, k]
        Of the neighbors within their cloud, in int64.
    """
    tensor = _checked_points(points)
    k = require_k(k, tensor.shape[-2])
    distances, indices = _nearest_neighbors(tensor, k)
    return like_input(distances, points), like_input(indices, points)


def knn_distance_sums(points: Any, ks: Sequence[int], gamma: float = 1.0) -> Any:
    """Return the lengths L_k of the k-nearest-neighbor graphs of a cloud, for all ``ks`` in one pass.

    ``L_k = sum_i sum_{j=1..k} rho_ij ** gamma`` with rho_ij the distance from point i to its j-th
    nearest other point.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        As in `knn_distances`, whose precision and errors hold here too.
    ks : sequence of int
        Numbers of neighbors, each from 1 to n - 1, in any order.
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

    Examples
    --------
    >>> import numpy as np
    >>> knn_distance_sums(np.array([[0.0], [1.0], [3.0]]), [1, 2])
    array([ 4., 12.])
    """
    tensor = _checked_points(points)
    values = require_ks(ks, tensor.shape[-2])
    distinct = sorted(set(values))
    sums = _knn_distance_sums(tensor, distinct, require_positive("gamma", gamma))
    return like_input(sums[..., [distinct.index(k) for k in values]], points)


def update_squared_distances_(matrix: Any, points: Any, first: int, changed: int) -> None:
    """Bring a matrix of squared distances up to date after some points have changed, in place.

    Parameters
    ----------
    matrix : Tensor or array [n, n]
        Squared distances in float64, with infinity on the diagonal; contiguous.
    points : Tensor or array [n, D]
        float32 or float64.
    first, changed : int
        The points ``first`` to ``first + changed - 1`` have changed. ``0, n`` fills the matrix.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, dtypes, devices or ranges, or a changed row that is not finite (named).
    """
    matrix, points = as_tensor_to_write("matrix", matrix), as_tensor_to_read("points", points)
    require_points(points)
    if matrix.device != points.device:
        raise ValueError(f"matrix: must lie on the device of points, {points.device}, not {matrix.device}")
    if points.ndim != 2:
        raise ValueError(f"points: the shape must be [n, D], not {list(points.shape)}")
    flat, n = _flat_matrix(matrix), len(points)
    if len(matrix) != n:
        raise ValueError(f"matrix: must have the shape [{n}, {n}], not {list(matrix.shape)}")
    first = require_integer("first", first, 0, n)
    changed = require_integer("changed", changed, 0, n)
    _require_span("changed", first, changed, n)
    bad = kernel_for("update_squared_distances", "points", points)(
        _as_clouds(points[None]), first, changed, flat
    )
    _refuse(bad, points)


def matrix_distance_sums(matrix: Any, ks: Sequence[int], without: int = 0, without_end: int = 0) -> Any:
    """Return the lengths L_k of `knn_distance_sums` from a matrix of squared distances.

    Parameters
    ----------
    matrix : Tensor or array [n, n]
        As in `update_squared_distances_`.
    ks : sequence of int
        Numbers of neighbors among the points that are not left out, in any order.
    without, without_end : int
        Leave out the points ``without`` to ``without_end - 1``.

    Returns
    -------
    Tensor or array [len(ks)]
        In float64.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape or dtype, ``ks`` beyond the points that are left, a range beyond the matrix, or
        distances that overflow.
    """
    tensor = as_tensor_to_read("matrix", matrix)
    flat = _flat_matrix(tensor)
    without_end = require_integer("without_end", without_end, 0, len(tensor))
    without = require_integer("without", without, 0)
    if without > without_end:
        raise ValueError(f"without, without_end: must be a range of points, not {without} to {without_end}")
    values = require_ks(ks, len(tensor) - (without_end - without))
    distinct = sorted(set(values))
    sums = tensor.new_empty(len(distinct))
    run = kernel_for("matrix_distance_sums", "matrix", tensor)
    run(flat, distinct, range(without, without_end), sums)
    return like_input(sums[[distinct.index(k) for k in values]], matrix)
