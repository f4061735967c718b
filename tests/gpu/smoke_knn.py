"""Distances to nearest neighbors, matrices of distances, and sketches."""

from dataclasses import dataclass

import torch
from place import CPU, FLOAT32, FLOAT64, Place, View, normal, on_another_stream, within

from pythermo import ops

# Squares are taken of float32 differences; in float64 the longest sum here has 24 408 terms.
LIMIT = {FLOAT32: 2e-6, FLOAT64: 2e-14}


@dataclass
class Found:
    bad: tuple[int, int] | None
    distances: torch.Tensor
    indices: torch.Tensor
    sums: torch.Tensor


def run(place: Place) -> None:
    cases = [(2, 1, 1), (33, 3, 32), (65, 29, 6), (129, 113, 6)]
    cases += [(200, 1003, 50)] if place.sizes != "least" else []
    cases += [(1000, 24_408, 50), (3000, 17, 10), (5000, 3, 3000)] if place.sizes == "full" else []
    for dtype in (FLOAT32, FLOAT64):
        for n, dim, k in cases:
            for offset in (0,) if n >= 1000 else (0, 1) if place.sizes == "least" else (0, 1, 2):
                place.check(
                    f"knn, {dtype}, n = {n}, D = {dim}, k = {k}, from element {offset}",
                    lambda dtype=dtype, n=n, dim=dim, k=k, offset=offset: distances(
                        place, dtype, n, dim, k, offset
                    ),
                )
        place.check(
            f"knn, {dtype}: the same bits by any settings", lambda dtype=dtype: same_bits(place, dtype)
        )
        place.check(f"knn, {dtype}: a matrix brought up to date", lambda dtype=dtype: matrix(place, dtype))
        place.check(
            f"knn, {dtype}: pairs near each other and far from the origin",
            lambda dtype=dtype: far_from_the_origin(place, dtype),
        )
        place.check(f"knn, {dtype}: the row that is not finite", lambda dtype=dtype: bad_row(place, dtype))
        for dim, size in ((1, 1), (1000, 7), (5000, 300), (100, 1000)):
            place.check(
                f"sketch, {dtype}, {dim} to {size}",
                lambda dtype=dtype, dim=dim, size=size: sketch(place, dtype, dim, size),
            )
    if not place.fake:
        place.check("knn: on another stream", on_a_stream)


def of(kernels, clouds: torch.Tensor, k: int) -> Found:
    """Let all of a backend's kernels look for neighbors, with indices and without."""
    count, n, _ = clouds.shape
    there = {"device": clouds.device}
    found = torch.full((count * n * k,), -1.0, dtype=FLOAT64, **there)
    indices = torch.full((count * n * k,), -1, dtype=torch.int64, **there)
    bad = kernels.knn_distances(clouds, k, found, indices)
    alone = torch.full_like(found, -1.0)
    kernels.knn_distances(clouds, k, alone, indices[:0])
    assert torch.equal(alone, found), "other distances without indices"
    ks = sorted({1, (k + 1) // 2, k})
    sums = torch.full((count * len(ks),), -1.0, dtype=FLOAT64, **there)
    kernels.knn_distance_sums(clouds, ks, 1.5, sums)
    return Found(bad, found.cpu(), indices.cpu(), sums.cpu())


def distances(place: Place, dtype: torch.dtype, n: int, dim: int, k: int, offset: int) -> str:
    points = normal(2 if n < 1000 else 1, n, dim, seed=n, dtype=dtype)
    expected, found = of(CPU, points, k), of(place.kernels, View(points, offset, place.device).tensor, k)
    pairs = (found.distances, expected.distances), (found.sums, expected.sums)
    return within(max(float((one / other - 1).abs().max()) for one, other in pairs), LIMIT[dtype])


def same_bits(place: Place, dtype: torch.dtype) -> str:
    """Points that coincide, and some that nearly do, as a trajectory at rest leaves them."""
    n = 130
    points = normal(2, n, 40, seed=1, dtype=dtype)
    points[:, ::9] = points[:, :1]
    points[:, 5], points[:, 7] = 1e-25 * points[:, 6], 2e-25 * points[:, 8]
    there = points.to(place.device)
    expected = of(place.kernels, there, 20)
    for threads, longest_sorted, workspace_bytes in (
        (32, 2048, 8 * n * n),
        (96, 4, 0),
        (64, 64, 16 * n * n),
        (256, 16, 2**28),
    ):
        with place.settings(threads=threads, longest_sorted=longest_sorted, workspace_bytes=workspace_bytes):
            found = of(place.kernels, there, 20)
        for name in ("distances", "indices", "sums"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), (name, threads, longest_sorted)
    on_cpu = of(CPU, points, 20).distances
    error = (expected.distances - on_cpu).abs() / on_cpu.clamp(min=1e-300)
    return within(float(error.max()), LIMIT[dtype])


def far_from_the_origin(place: Place, dtype: torch.dtype) -> str:
    """What products lose to cancellation, some of the pairs or all of them."""
    worst = 0.0
    for offset, spread in ((1.0, 1e-2), (1e3, 1e-3), (1.0, 1e-6), (0.0, 1e-30)):
        points = offset + spread * normal(1, 140, 300, seed=1, dtype=dtype)
        points[0, 5] = offset
        expected, found = of(CPU, points, 50), of(place.kernels, points.to(place.device), 50)
        worst = max(worst, float((found.distances / expected.distances - 1).abs().nan_to_num().max()))
    return within(worst, LIMIT[dtype])


def matrix(place: Place, dtype: torch.dtype) -> None:
    n, kernels = 140, place.kernels
    points = normal(n, 33, seed=1, dtype=dtype)
    updated = torch.full((n * n,), torch.nan, dtype=FLOAT64, device=place.device)
    kernels.update_squared_distances(points[None].to(place.device), 0, n, updated)
    points[10:70] = normal(60, 33, seed=2, dtype=dtype)
    kernels.update_squared_distances(points[None].to(place.device), 10, 60, updated)
    anew = torch.full_like(updated, torch.nan)
    kernels.update_squared_distances(points[None].to(place.device), 0, n, anew)
    assert torch.equal(updated, anew), "an update is not the whole"
    left = torch.cat([points[:20], points[33:]])
    by_matrix, by_points = (torch.empty(2, dtype=FLOAT64, device=place.device) for _ in range(2))
    kernels.matrix_distance_sums(anew, [1, 30], range(20, 33), by_matrix)
    kernels.knn_distance_sums(left[None].to(place.device), [1, 30], 1.0, by_points)
    assert torch.equal(by_matrix, by_points), f"{by_matrix} is not {by_points} without the points left out"


def bad_row(place: Place, dtype: torch.dtype) -> None:
    points = normal(2, 90, 30, seed=1, dtype=dtype)
    points[1, 71, 29] = points[1, 80, 0] = torch.nan
    assert of(place.kernels, points.to(place.device), 3).bad == (1, 71)


def sketch(place: Place, dtype: torch.dtype, dim: int, size: int) -> None:
    weights = normal(dim, seed=1, dtype=dtype)
    expected = torch.empty(size, dtype=FLOAT64)
    found = torch.full((size,), torch.nan, dtype=FLOAT64, device=place.device)
    CPU.sketch(weights, expected, 3)
    place.kernels.sketch(weights.to(place.device), found, 3)
    assert torch.equal(expected, found.cpu()), "other bits than the CPU's"


def on_a_stream() -> None:
    points = normal(300, 500, seed=1).cuda()
    expected = ops.knn_distance_sums(points, [1, 20])
    assert torch.equal(expected, on_another_stream(lambda: ops.knn_distance_sums(points, [1, 20])))
