"""Distances to nearest neighbors against brute force in extended precision."""

import math
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import distances, normal

import pythermo as pt
from pythermo import _core, ops

# What the docstring promises of each distance.
RELATIVE_ERROR = {torch.float32: 1e-6, torch.float64: 1e-14}

# Up to 16 coordinates are sorted into leaves of 64 points; beyond, blocks of 72 points are compared, whose
# distances are kept as a matrix where 2 k + 80 is n or more.
FEW, MANY = 5, 40

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
on_all_kernels = pytest.mark.usefixtures("kernels")  # the CPU's, and CUDA's emulated or on a device


def neighbors(points):
    """Return all distances, ascending, and indices [n, n - 1] of other points; ties by index."""
    full = distances(points.numpy())
    np.fill_diagonal(full, -1)
    order = np.argsort(full, axis=1, kind="stable")[:, 1:]
    return np.take_along_axis(full, order, axis=1), order


def check(points, k):
    """Compare distances and, where gaps are beyond rounding, the order of neighbors; return their share."""
    bound = RELATIVE_ERROR[points.dtype]
    expected, order = neighbors(points)
    found, indices = ops.nearest_neighbors(points, k)
    error = np.abs(found.numpy() - expected[:, :k]) / np.where(expected[:, :k] > 0, expected[:, :k], 1)
    assert error.max() <= bound
    assert torch.equal(ops.knn_distances(points, k), found)
    if k < len(points) - 1:
        clear = np.diff(expected, axis=1, prepend=0.0)[:, : k + 1] > 2 * bound * expected[:, : k + 1]
        clear = clear[:, :-1] & clear[:, 1:]
        assert (indices.numpy() == order[:, :k])[clear].all()
        return clear.mean()
    return 1.0


@on_all_kernels
@pytest.mark.sampled(7)
@DTYPES
@pytest.mark.parametrize("dim", [3, 17, 100, 1003])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("kind", ["isotropic", "walk", "ballistic"])
def test_clouds_and_trajectories_about_a_point_of_the_sphere(dtype, dim, spread, kind):
    n = 60
    center = normal(dim, seed=2, dtype=torch.float64)
    noise = normal(n, dim, seed=1, dtype=torch.float64) / math.sqrt(dim)
    if kind == "isotropic":
        moved = spread * noise
    elif kind == "walk":
        moved = spread * noise.cumsum(0) / math.sqrt(n)
    else:  # a line whose jitter is a thousand times smaller than its length
        along = normal(dim, seed=3, dtype=torch.float64)
        moved = spread * (torch.arange(n)[:, None] / n * along / along.norm() + 1e-3 * noise)
    clear = check((center / center.norm() + moved).to(dtype), 20)
    assert clear > 0.9 or spread < 1e-4  # beyond, float32 coordinates hold few different distances


def test_a_line_of_equal_coordinates_whose_roundings_all_agree():
    """The worst case of a sum of squares: every addition rounds the same way."""
    for value in (1.0 + 2**-23, 1.0 / 3.0, 1.7):
        points = torch.arange(60)[:, None] * torch.full((1, 5000), value)
        check(points, 30)


@on_all_kernels
@pytest.mark.sampled(5)
@DTYPES
@pytest.mark.parametrize("n", [2, 3, 5, 6, 63, 64, 65, 71, 72, 73, 129, 144, 145])
@pytest.mark.parametrize("dim", [1, 2, FEW, 16, 17, MANY])
def test_numbers_of_points_at_the_edges_of_leaves_and_blocks(dtype, n, dim):
    points = normal(n, dim, seed=n, dtype=dtype)
    for k in sorted({1, min(5, n - 1), n // 2, n - 1}):
        check(points, k)


@on_all_kernels
@pytest.mark.sampled(3)
@DTYPES
@pytest.mark.parametrize(
    "dim", [15, 16, 17, 31, 32, 33, 223, 224, 225, 447, 448, 449, 471, 472, 473, 895, 896, 897, 1345, 5000]
)
def test_numbers_of_coordinates_at_the_edges_of_vectors_and_runs(dtype, dim):
    check(normal(11, dim, seed=dim, dtype=dtype), 10)


def test_a_hundred_thousand_coordinates():
    check(normal(9, 100_003, seed=1), 8)


@on_all_kernels
@given(st.data())
def test_integer_points_have_exact_squares(data):
    n = data.draw(st.integers(2, 70), "n")
    dim = data.draw(st.sampled_from([1, 2, FEW, MANY]), "dim")
    largest = data.draw(st.sampled_from([1, 3, 100]), "largest")  # small ones make ties and duplicates
    k = data.draw(st.integers(1, n - 1), "k")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]), "dtype")
    seed = data.draw(st.integers(0, 10**6), "seed")
    rng = np.random.default_rng(seed)
    whole = rng.integers(-largest, largest + 1, size=(n, dim))
    found, indices = ops.nearest_neighbors(torch.from_numpy(whole).to(dtype), k)
    squares = ((whole[:, None] - whole[None]) ** 2).sum(-1)
    for i in range(n):
        expected = sorted((int(squares[i, j]), j) for j in range(n) if j != i)[:k]
        assert indices[i].tolist() == [j for _, j in expected]
        assert found[i].tolist() == [math.sqrt(square) for square, _ in expected]


@on_all_kernels
@pytest.mark.parametrize("sites", [1, 2, 7, 40])
@pytest.mark.parametrize("k", [1, 5, 30, 170])
def test_many_duplicates(sites, k):
    """Some with more duplicates than neighbors, some with fewer, at corners of a cube: with ties between them."""
    rng = np.random.default_rng(sites)
    corners = rng.integers(0, 3, size=(sites, 3)).astype(float)
    cloud = corners[np.minimum(rng.geometric(0.1, size=400) - 1, sites - 1)]
    found, indices = ops.nearest_neighbors(cloud, k)
    squares = ((cloud[:, None] - cloud[None]) ** 2).sum(-1)
    np.fill_diagonal(squares, np.inf)
    expected = np.argsort(squares, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, np.sqrt(np.take_along_axis(squares, expected, axis=1)))
    np.testing.assert_array_equal(ops.knn_distances(cloud, k), found)
    # Of a few hundred terms, in another order.
    np.testing.assert_allclose(ops.knn_distance_sums(cloud, [k]), [found.sum()], rtol=1e-12)


def test_a_million_identical_points():
    """A search of all leaves for each point would take them half an hour on a core; it is a few seconds."""
    code = (
        "import numpy as np; from pythermo import ops; cloud = np.ones((1_000_000, 3));"
        "distances, indices = ops.nearest_neighbors(cloud, 3);"
        "assert (distances == 0).all() and indices[:4].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];"
        "assert (indices[4:] == [0, 1, 2]).all(); assert ops.knn_distance_sums(cloud, [2, 9]).sum() == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_fractions():
    points = np.array([[1.0, 2.0**-30], [1.0 + 2.0**-20, 0.0], [1.0 - 2.0**-25, 2.0**-22]])
    found = ops.knn_distances(points, 2)
    for i, row in enumerate(found):
        exact = sorted(
            sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(points[i], points[j], strict=True))
            for j in range(3)
            if j != i
        )
        for distance, square in zip(row, exact, strict=True):
            assert abs(Fraction(distance) ** 2 / square - 1) < 4 * Fraction(1, 2**53)


@on_all_kernels
@pytest.mark.parametrize("dim", [FEW, MANY])
@pytest.mark.parametrize("n", [60, 300])
def test_all_points_equal(dim, n):
    distances, indices = ops.nearest_neighbors(torch.full((n, dim), 0.3), 4)
    assert (distances == 0).all()
    assert indices[0].tolist() == [1, 2, 3, 4]
    assert indices[-1].tolist() == [0, 1, 2, 3]
    assert (ops.knn_distance_sums(torch.full((n, dim), 0.3), [1, n - 1]) == 0).all()


@on_all_kernels
@pytest.mark.parametrize("dim", [FEW, MANY])
def test_duplicates_are_neighbors_at_distance_zero(dim):
    points = normal(100, dim, seed=1).repeat(3, 1)
    distances, indices = ops.nearest_neighbors(points, 3)
    assert (distances[:, :2] == 0).all()
    assert (distances[:, 2] > 0).all()
    assert indices[150, :2].tolist() == [50, 250]


@on_all_kernels
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e15, 1e25, 1e37])
@pytest.mark.parametrize("dim", [FEW, MANY])
def test_float32_points_whose_squares_float32_does_not_hold(scale, dim):
    check(scale * normal(30, dim, seed=1), 10)


def test_float32_differences_of_very_different_sizes():
    points = normal(30, 600, seed=1)
    points[:, ::2] *= 1e-20
    check(points, 10)


def test_float64_points_too_far_apart():
    for dim in (FEW, MANY):
        for k in (1, 29):
            with pytest.raises(ValueError, match="points: too far apart, their squared distances overflow"):
                ops.knn_distances(1e160 * normal(30, dim, seed=1, dtype=torch.float64), k)
        check(1e140 * normal(30, dim, seed=1, dtype=torch.float64), 29)


@on_all_kernels
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@DTYPES
def test_the_row_that_is_not_finite_is_named(bad, dtype):
    for dim, k in ((FEW, 3), (MANY, 3), (MANY, 80), (1000, 3)):
        points = normal(2, 3, 100, dim, seed=1, dtype=dtype)
        points[1, 2, 71, dim - 1] = bad
        points[1, 2, 90, 0] = bad
        message = r"points: row \[1, 2, 71\] holds NaN or infinity"
        with pytest.raises(ValueError, match=message):
            ops.knn_distances(points, k)
        with pytest.raises(ValueError, match=message):
            ops.nearest_neighbors(points, k)
        with pytest.raises(ValueError, match=message):
            ops.knn_distance_sums(points, [1, k])
        with pytest.raises(ValueError, match=r"points: row \[71\] holds NaN"):
            ops.knn_distance_sums(points[1, 2], [k])


@on_all_kernels
@pytest.mark.parametrize("dim", [FEW, MANY])
@pytest.mark.parametrize("k", [3, 19])
def test_batches_and_views(dim, k):
    points = normal(2, 3, 20, dim, seed=1)
    expected, order = ops.nearest_neighbors(points, k)
    assert expected.shape == order.shape == (2, 3, 20, k)
    for batch in np.ndindex(2, 3):
        alone, alone_order = ops.nearest_neighbors(points[batch], k)
        assert torch.equal(expected[batch], alone)
        assert torch.equal(order[batch], alone_order)
    sums = ops.knn_distance_sums(points, [k, 1, k])
    assert sums.shape == (2, 3, 3)
    torch.testing.assert_close(sums[..., 0], expected.sum((-1, -2)), rtol=1e-13, atol=0)
    torch.testing.assert_close(sums[..., 1], expected[..., 0].sum(-1), rtol=1e-13, atol=0)
    assert torch.equal(sums[..., 2], sums[..., 0])

    padded = torch.full((2, 3, 25, dim + 9), torch.nan)
    padded[:, :, 2:22, 4 : dim + 4] = points
    views = [
        padded[:, :, 2:22, 4 : dim + 4],
        points.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        points.transpose(0, 1).contiguous().transpose(0, 1),
        points.repeat_interleave(2, 2)[:, :, ::2],
        points[:, :, :, torch.arange(dim).repeat_interleave(2)][..., ::2],
    ]
    for view in views:
        assert torch.equal(view, points)
        assert torch.equal(ops.knn_distances(view, k), expected)
    same = points[0, :1].expand(4, 20, dim)
    assert torch.equal(ops.knn_distances(same, k)[3], expected[0, 0])
    as_array = ops.knn_distances(points.numpy()[..., ::-1, ::-1], k)
    assert isinstance(as_array, np.ndarray)
    np.testing.assert_allclose(as_array[..., ::-1, :], expected.numpy(), rtol=1e-6)

    assert ops.knn_distances(points[:, :0], k).shape == (2, 0, 20, k)
    assert ops.knn_distance_sums(points[:0], [1, k]).shape == (0, 3, 2)
    assert ops.knn_distances(points[:1, :1], k).shape == (1, 1, 20, k)


def test_wrong_arguments():
    points = torch.ones(3, 2)
    for k in (0, 3, -1):
        with pytest.raises(ValueError, match=f"k: {k} is not a number of neighbors among 3 points"):
            ops.knn_distances(points, k)
        with pytest.raises(ValueError, match=f"ks: {k} is not a number of neighbors"):
            ops.knn_distance_sums(points, [1, k])
    with pytest.raises(ValueError, match="ks: 1 is not a number of neighbors among 1 points"):
        ops.knn_distance_sums(points[:1], [1])
    with pytest.raises(ValueError, match="ks: at least one"):
        ops.knn_distance_sums(points, [])
    with pytest.raises(ValueError, match="points: the shape must be"):
        ops.knn_distances(points[0], 1)
    with pytest.raises(ValueError, match="points: the shape must be"):
        ops.knn_distances(torch.ones(3, 0), 1)
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        with pytest.raises(TypeError, match="points: the dtype must be float32 or float64"):
            ops.knn_distances(points.to(dtype), 1)


@pytest.mark.parametrize(("n", "dim", "k"), [(300, 3, 50), (300, 12, 7), (300, 70, 20), (300, 70, 200)])
@DTYPES
def test_the_same_bits_for_any_thread_count(n, dim, k, dtype):
    points, before = normal(3, n, dim, seed=1, dtype=dtype), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            for _ in range(3):
                results.append(
                    (*ops.nearest_neighbors(points, k), ops.knn_distance_sums(points, [1, k // 2, k]))
                )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@DTYPES
def test_every_instruction_set(dtype):
    chosen = _core.chosen_instruction_set()
    try:
        for name in _core.instruction_sets():
            try:
                _core.choose_instruction_set(name)
            except ValueError:
                continue
            for n, dim, k in ((100, 3, 20), (100, 3, 99), (61, 1003, 20), (61, 1003, 60), (130, 33, 5)):
                check(normal(n, dim, seed=1, dtype=dtype), k)
    finally:
        _core.choose_instruction_set(chosen)


@on_all_kernels
@pytest.mark.parametrize("dim", [FEW, MANY])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_sums_are_those_of_the_distances(dim, gamma):
    for n in (30, 400):
        points = normal(n, dim, seed=3, dtype=torch.float64)
        near = neighbors(points)[0].astype(np.float64)
        ks = [n - 1, 1, 7, 7, n // 2]
        expected = [(near[:, :k] ** gamma).sum() for k in ks]
        np.testing.assert_allclose(ops.knn_distance_sums(points, ks, gamma), expected, rtol=1e-13)
        np.testing.assert_allclose(ops.knn_distance_sums(points, [7], gamma), expected[2:3], rtol=1e-13)


def test_a_hand_computed_line():
    # Points 0, 1, 3: nearest distances 1, 1, 2 and then 3, 2, 3.
    line = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_allclose(ops.knn_distances(line, 2), [[1, 3], [1, 2], [2, 3]])
    np.testing.assert_allclose(ops.knn_distance_sums(line, [1, 2]), [4, 12])
    expected = [math.log(length) for length in (4, 12)]  # d = gamma = 1: S = log L
    np.testing.assert_allclose(pt.knn_graph_entropy(line, [1, 2], intrinsic_dim=1), expected)


@on_all_kernels
@given(
    n=st.integers(2, 200),
    dim=st.sampled_from([1, 2, 3, 8, 16, 17, 30]),
    seed=st.integers(0, 10**6),
    stretch=st.sampled_from([1.0, 1e-6, 1e6]),
    data=st.data(),
)
def test_leaves_and_blocks_agree_with_brute_force(n, dim, seed, stretch, data):
    """Clouds of very unequal sides, where boxes are flat."""
    k = data.draw(st.integers(1, n - 1))
    points = normal(n, dim, seed=seed, dtype=torch.float64)
    points[:, 0] *= stretch
    check(points, k)


def test_many_points():
    """A box far away must not hide a neighbor: against scipy's tree."""
    from scipy.spatial import cKDTree

    for points in (
        normal(20_000, 3, seed=1, dtype=torch.float64),
        normal(20_000, 2, seed=1, dtype=torch.float64).cumsum(0),
        torch.cat([normal(5000, 4, seed=1), 1e-3 * normal(5000, 4, seed=2) + 5]).double(),
    ):
        expected, order = cKDTree(points.numpy()).query(points.numpy(), k=9)
        found, indices = ops.nearest_neighbors(points, 8)
        np.testing.assert_allclose(found, expected[:, 1:], rtol=1e-13)
        assert (indices.numpy() == order[:, 1:]).mean() > 0.999


@on_all_kernels
@pytest.mark.parametrize("dim", [FEW, MANY])
def test_registered_operators(dim):
    points = normal(2, 30, dim, seed=1)
    registered = torch.ops.pythermo
    torch.library.opcheck(registered.knn_distances.default, (points, 3))
    torch.library.opcheck(registered.nearest_neighbors.default, (points, 3))
    torch.library.opcheck(registered.knn_distance_sums.default, (points, [1, 3], 1.0))
    with_gradient = points.clone().requires_grad_()
    for result in (ops.knn_distances(with_gradient, 3), ops.knn_distance_sums(with_gradient, [3])):
        assert torch.equal(result.detach().sum(), result.sum())
        with pytest.raises(RuntimeError, match=r"no autograd formula|does not require grad"):
            result.sum().backward()


_LARGE = """
import torch, pythermo as pt
points = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1))
print(float(pt.ops.knn_distance_sums(points, [50])))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells peak memory on Linux only")
def test_two_hundred_thousand_points_in_less_than_a_gibibyte():
    run = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=True)
    length, most_kibibytes = map(float, run.stdout.split())
    assert length > 0
    assert 100_000 < most_kibibytes < 2**20


def test_a_signal_stops_it():
    def interrupt(signum, frame):
        raise KeyboardInterrupt

    points = normal(120_000, 64, seed=1)  # half a minute's work
    before = signal.signal(signal.SIGALRM, interrupt)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            ops.knn_distances(points, 3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime > spent
