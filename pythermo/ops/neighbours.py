"""Distances to nearest neighbours and the lengths of their graphs, exact at any spread."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pythermo._backends import BACKENDS, BadRow, backend_of
from pythermo._checks import (
    as_tensor,
    like_input,
    require_ks,
    require_points,
    require_positive,
)


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

    Raises
    ------
    ValueError
        For ``ks`` beyond the points that are left, a range beyond the matrix, or distances that overflow.
    """
    values = require_ks(ks, len(matrix) - (without_end - without))
    distinct = sorted(set(values))
    sums = matrix.new_empty(len(distinct))
    without_range = range(without, without_end)
    backend_of("matrix", matrix).matrix_distance_sums(matrix.view(-1), distinct, without_range, sums)
    return sums[[distinct.index(k) for k in values]]
