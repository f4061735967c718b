"""CUDA's nearest neighbors: what test_knn.py does not ask of all kernels."""

import math

import backends
import emulation
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import normal

import pythermo as pt
from pythermo import ops
from pythermo.ops import knn

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SORTED, SIFTED = 2048, 4  # rows of more distances are sifted before they are sorted


@pytest.fixture
def products(cuda):
    """Let the emulated device compare float points of 64 coordinates and more by their products in double."""
    emulation.module().set_single_to_double_ratio(2)
    return cuda


def found_in(points, k):
    sums = ops.knn_distance_sums(points, sorted({1, (k + 1) // 2, k}), 1.5)
    return [*ops.nearest_neighbors(points, k), sums]


def assert_agree(found, expected, dtype):
    tolerance = 2 * (1e-6 if dtype is torch.float32 else 1e-14)
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=0)
    torch.testing.assert_close(found[2], expected[2], rtol=tolerance, atol=0)
    clear = expected[0].diff(dim=-1) > 2 * tolerance * expected[0][..., 1:]
    clear = clear[..., 1:] & clear[..., :-1]
    assert torch.equal(found[1][..., 1:-1][clear], expected[1][..., 1:-1][clear])


@DTYPES
@pytest.mark.parametrize("dim", [1, 2, 3, 14, 28, 29, 113])
def test_agrees_with_the_cpu_at_the_edges_of_tiles_warps_and_stages(cuda, on_cpu, dtype, dim):
    for n in (2, 31, 33, 63, 64, 65, 129):
        points = normal(n, dim, seed=n, dtype=dtype)
        k = min(6, n - 1)
        assert_agree(found_in(points, k), on_cpu(found_in, points, k), dtype)


@DTYPES
@pytest.mark.parametrize("n", [5, 32, 33, 65])
def test_rows_that_are_sifted(cuda, on_cpu, dtype, n):
    cuda.longest_sorted, cuda.threads = SIFTED, 64
    points = normal(n, 3, seed=n, dtype=dtype)
    for k in (1, 4, n - 1):  # sorted in shared memory, and in the workspace
        assert_agree(found_in(points, k), on_cpu(found_in, points, k), dtype)


@settings(max_examples=10)
@given(data=st.data())
@pytest.mark.parametrize("longest_sorted", [SORTED, SIFTED])
def test_ties_go_by_the_index(cuda, longest_sorted, data):
    cuda.longest_sorted, cuda.threads = longest_sorted, 64
    n, dim = data.draw(st.integers(2, 40), "n"), data.draw(st.integers(1, 3), "dim")
    largest, k = data.draw(st.sampled_from([0, 1, 3]), "largest"), data.draw(st.integers(1, n - 1), "k")
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6), "seed"))
    whole = rng.integers(-largest, largest + 1, size=(n, dim))
    squares = ((whole[:, None] - whole[None]) ** 2).sum(-1)
    found, indices = ops.nearest_neighbors(torch.from_numpy(whole).float(), k)
    for i in range(n):
        expected = sorted((int(squares[i, j]), j) for j in range(n) if j != i)[:k]
        assert indices[i].tolist() == [j for _, j in expected]
        assert found[i].tolist() == [math.sqrt(square) for square, _ in expected]


def with_duplicates(clouds, n, dim, dtype):
    """Clouds where some pairs of a tile need double and others do not."""
    points = normal(clouds, n, dim, seed=1, dtype=dtype)
    points[:, ::9] = points[:, :1]
    points[:, 5] = 1e-25 * points[:, 6]
    points[:, 7] = 2e-25 * points[:, 8]
    return points


@DTYPES
@pytest.mark.parametrize(("n", "dim", "k"), [(80, 40, 20), (80, 3, 79)])
def test_the_same_bits_for_any_schedule_block_workspace_and_selection(emulated, dtype, n, dim, k):
    points = with_duplicates(2, n, dim, dtype)
    expected = found_in(points, k)
    row, sorting = 8 * n, 16 * 128
    for emulated.threads, emulated.longest_sorted, emulated.workspace_bytes, schedule in (
        (256, SORTED, 2**28, "shuffled"),
        (32, SORTED, n * row, "backward"),  # one cloud at once
        (96, SIFTED, 0, "forward"),  # a cloud in two strips
        (32, 64, 2 * n * row, "backward"),
        (64, 64, n * row + 70 * sorting, "forward"),  # a whole cloud, sorted in two parts
    ):
        emulation.module().set_schedule(backends.SCHEDULES[schedule])
        assert all(map(torch.equal, found_in(points, k), expected))
    assert all(map(torch.equal, found_in(points[1], k), [part[1] for part in expected]))


@DTYPES
@pytest.mark.parametrize(("n", "dim"), [(5, 1024), (70, 1100), (150, 2500), (66, 17001)])
@pytest.mark.usefixtures("emulated")
def test_the_same_bits_whether_blocks_take_tiles_or_segments(on_cpu, dtype, n, dim):
    """Of 3 and 6 tiles the emulated device splits 3 and 2, where it has the workspace."""
    points = normal(n, dim, seed=n, dtype=dtype)
    clouds = points[None]
    points[n // 3, dim // 3] = 1e16  # whose squares are made again in float64
    matrices = [torch.full((n, n), torch.nan, dtype=torch.float64) for _ in range(4)]
    flat = [matrix.view(-1) for matrix in matrices]
    one_tile = 2**12 * min(15, -(-dim // 1024))
    for size, matrix in zip((0, one_tile, 100 * one_tile), flat, strict=False):
        knn._on_cuda("update_squared_distances", size, clouds, 0, n, matrix)
    for first in range(0, n, 40):
        ops.update_squared_distances_(matrices[3], points, first, min(40, n - first))
    assert all(torch.equal(matrices[0], matrix) for matrix in matrices[1:])
    assert_agree(found_in(points, n // 2), on_cpu(found_in, points, n // 2), dtype)
    lengths = ops.knn_distance_sums(points, [1, n // 2])
    assert torch.equal(ops.matrix_distance_sums(matrices[0], [1, n // 2]), lengths)


@pytest.mark.parametrize("dim", [64, 65, 113, 449, 1100])
@pytest.mark.usefixtures("products")
def test_products_agree_with_the_cpu_at_the_edges_of_tiles_and_runs(on_cpu, dim):
    for n in (2, 65, 129) if dim < 449 else (70,):
        points = normal(n, dim, seed=n)
        k = min(6, n - 1)
        assert_agree(found_in(points, k), on_cpu(found_in, points, k), points.dtype)


def test_a_product_is_nearer_to_the_distance_than_float_differences_are(products):
    points = normal(40, 3000, seed=1)
    expected = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(
        ops.knn_distances(points, 39), expected.sort(dim=1).values[:, 1:], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("offset", "spread"),
    [(1.0, 1e-2), (1e3, 1e-3), (1e30, 1e25), (1.0, 1e-6), (0.0, 1e-30), (0.0, 1e30)],
)
@pytest.mark.usefixtures("products")
def test_pairs_that_products_would_leave_inexact_are_made_again(on_cpu, offset, spread):
    points = offset + spread * normal(70, 80, seed=1)
    points[3] = points[66]
    points[5] = offset
    points[7], points[8] = offset, -offset
    assert_agree(found_in(points, 69), on_cpu(found_in, points, 69), points.dtype)


@pytest.mark.parametrize(("n", "dim"), [(80, 100), (70, 1500)])
def test_products_have_the_same_bits_for_any_schedule_and_workspace(emulated, n, dim):
    emulation.module().set_single_to_double_ratio(2)
    points = with_duplicates(2, n, dim, torch.float32)
    expected = found_in(points, n // 2)
    row = 8 * n
    for emulated.threads, emulated.workspace_bytes, schedule in (
        (256, 2**28, "shuffled"),
        (32, n * row, "backward"),  # one cloud at once
        (96, 0, "forward"),  # a cloud in strips
    ):
        emulation.module().set_schedule(backends.SCHEDULES[schedule])
        assert all(map(torch.equal, found_in(points, n // 2), expected))
    matrices = [torch.full((n, n), torch.nan, dtype=torch.float64) for _ in range(3)]
    one_tile = 22 * 256 * min(15, -(-dim // 1024))
    for size, matrix in zip((one_tile, 100 * one_tile), matrices, strict=False):
        knn._on_cuda("update_squared_distances", size, points[:1], 0, n, matrix.view(-1))
    for first in range(0, n, 50):
        ops.update_squared_distances_(matrices[2], points[0], first, min(50, n - first))
    assert all(torch.equal(matrices[0], matrix) for matrix in matrices[1:])
    assert torch.equal(matrices[0], matrices[0].T)
    lengths = ops.matrix_distance_sums(matrices[0], [1, n // 2])
    assert torch.equal(lengths, ops.knn_distance_sums(points[0], [1, n // 2]))
    with pytest.raises(ValueError, match="workspace: is too small"):
        knn._on_cuda("update_squared_distances", one_tile - 1, points[:1], 0, n, matrices[0].view(-1))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.usefixtures("products")
def test_products_name_the_lowest_row_that_is_not_finite(bad):
    points = normal(2, 90, 70, seed=1)
    points[1, 71, 69] = points[1, 80, 0] = bad
    with pytest.raises(ValueError, match=r"points: row \[1, 71\] holds NaN or infinity"):
        ops.nearest_neighbors(points, 3)


@DTYPES
def test_points_that_are_not_aligned(cuda, dtype):
    points = normal(2, 20, 31, seed=1, dtype=dtype)
    expected = found_in(points, 6)
    for offset in (1, 2, 3, 4):
        room = torch.full((2, 20, 40), torch.nan, dtype=dtype)
        view = room[:, :, offset : offset + 31]
        view.copy_(points)
        assert all(map(torch.equal, found_in(view, 6), expected))


@DTYPES
@pytest.mark.parametrize("longest_sorted", [SORTED, SIFTED])
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_the_lowest_row_that_is_not_finite_is_named(cuda, dtype, longest_sorted, bad):
    cuda.longest_sorted, cuda.workspace_bytes, cuda.threads = longest_sorted, 0, 64  # strips of 64 rows
    points = normal(2, 90, 30, seed=1, dtype=dtype)
    points[1, 71, 29] = points[1, 80, 0] = bad
    for call in (lambda: ops.nearest_neighbors(points, 3), lambda: ops.knn_distance_sums(points, [1, 4])):
        with pytest.raises(ValueError, match=r"points: row \[1, 71\] holds NaN or infinity"):
            call()


@pytest.mark.parametrize("longest_sorted", [SORTED, SIFTED])
def test_squares_that_overflow(cuda, longest_sorted):
    cuda.longest_sorted, cuda.threads = longest_sorted, 64
    points = normal(30, 4, seed=1, dtype=torch.float64)
    points[15:] += 1e160
    near = ops.knn_distances(points[:15], 14)
    assert torch.equal(ops.knn_distances(points, 14)[:15], near)  # the far ones do not matter
    with pytest.raises(ValueError, match="points: too far apart, their squared distances overflow"):
        ops.knn_distances(points, 15)
    matrix = torch.empty(30, 30, dtype=torch.float64)
    ops.update_squared_distances_(matrix, points, 0, 30)
    with pytest.raises(ValueError, match="points: too far apart, their squared distances overflow"):
        ops.matrix_distance_sums(matrix, [15])


@DTYPES
def test_a_matrix_is_brought_up_to_date(cuda, on_cpu, dtype):
    n, before = 140, normal(140, 33, seed=1, dtype=dtype)
    whole = torch.full((n, n), torch.nan, dtype=torch.float64)
    ops.update_squared_distances_(whole, before, 0, n)
    expected = torch.empty_like(whole)
    on_cpu(ops.update_squared_distances_, expected, before, 0, n)
    torch.testing.assert_close(whole, expected, rtol=4e-6 if dtype is torch.float32 else 4e-14, atol=0)
    assert torch.equal(whole, whole.T)
    for first, changed in ((0, 1), (10, 60), (60, 80), (139, 1), (64, 64), (7, 0)):
        points = before.clone()
        points[first : first + changed] = normal(changed, 33, seed=2, dtype=dtype)
        updated, anew = whole.clone(), torch.empty_like(whole)
        ops.update_squared_distances_(updated, points, first, changed)
        ops.update_squared_distances_(anew, points, 0, n)
        assert torch.equal(updated, anew)
    points[100, 3] = torch.nan
    with pytest.raises(ValueError, match=r"points: row \[100\] holds NaN"):
        ops.update_squared_distances_(whole, points, 90, 20)


@pytest.mark.parametrize("longest_sorted", [SORTED, SIFTED])
def test_sums_of_a_matrix_with_points_left_out(cuda, longest_sorted):
    cuda.longest_sorted, cuda.threads = longest_sorted, 64
    points = normal(50, 20, seed=1, dtype=torch.float64)
    matrix = torch.empty(50, 50, dtype=torch.float64)
    ops.update_squared_distances_(matrix, points, 0, 50)
    for first, last in ((0, 0), (0, 7), (20, 33), (49, 50)):
        left = torch.cat([points[:first], points[last:]])
        ks = [len(left) - 1, 1, 3]
        expected = ops.knn_distance_sums(left, ks)
        assert torch.equal(ops.matrix_distance_sums(matrix, ks, first, last), expected)


def test_a_window_of_a_trajectory(cuda, on_cpu):
    def entropies():
        window, walk = pt.TrajectoryEntropy(600, window=20), normal(50, 600, seed=1).cumsum(0)
        window_of_sketches = pt.TrajectoryEntropy(600, window=20, sketch=50)
        for point in walk:
            window.append(point)
            window_of_sketches.append(point)
        return [window.estimate().entropy, window_of_sketches.estimate().entropy]

    for found, expected in zip(entropies(), on_cpu(entropies), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_arguments_that_the_native_code_refuses(emulated, monkeypatch):
    points = normal(10, 3, seed=1)
    for owner, name, value, message in (
        (emulated, "threads", 33, "threads: must be a multiple of 32 up to 256"),
        (emulated, "threads", 512, "threads: must be a multiple of 32 up to 256"),
        (emulated, "longest_sorted", 4096, "longest_sorted: must be at most 2048"),
        (knn, "_workspace_size", lambda *_: 9, "workspace: is too small"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            with pytest.raises(ValueError, match=message):
                ops.knn_distances(points, 2)


def test_points_on_a_device_without_kernels():
    matrix = torch.empty(3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="matrix: must lie on the device of points, cpu, not meta"):
        ops.update_squared_distances_(matrix.to("meta"), torch.ones(3, 2), 0, 3)
