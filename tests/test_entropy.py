import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import distances, normal

import pythermo as pt
from pythermo.experiment.baseline import uniform_entropy

# arXiv 2505.23489: n = 1000 points uniform on the unit sphere, k = 50, mean of 10 draws.
PUBLISHED_UNIFORM_ENTROPY = {24408: 103784.74, 43692: 185853.23}


def sorted_distances(points: np.ndarray) -> np.ndarray:
    full = distances(points)
    np.fill_diagonal(full, -1)
    return np.sort(full, axis=1)[:, 1:].astype(np.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "dim"), [(2, 1), (3, 1), (17, 2), (50, 3), (40, 255), (40, 256), (40, 257), (20, 1000)]
)
def test_distances_agree_with_extended_precision(dtype, n, dim):
    points = normal(n, dim, seed=n, dtype=dtype)
    found = pt.ops.knn_distances(points, n - 1)
    # Squares of at most 256 coordinates are added up in the points' dtype.
    rtol = 1e-6 if dtype is torch.float32 else 1e-14
    np.testing.assert_allclose(found.numpy(), sorted_distances(points.numpy()), rtol=rtol)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("drifting", [False, True])
def test_close_points_keep_their_distances(spread, drifting):
    """Iterates of a low-LR run: where ||a||^2 + ||b||^2 - 2ab is wrong by factors."""
    steps = spread * normal(60, 500, seed=1, dtype=torch.float64) / math.sqrt(500)
    center = normal(500, seed=2, dtype=torch.float64)
    points = (center / center.norm() + (steps.cumsum(0) if drifting else steps)).float()
    found = pt.ops.knn_distances(points, 5)
    expected = sorted_distances(points.numpy())[:, :5]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_sums_are_those_of_the_distances():
    points = normal(30, 4, seed=3, dtype=torch.float64)
    near = sorted_distances(points.numpy())
    ks = [29, 1, 7, 7]
    for gamma in (1.0, 0.5, 2.0):
        expected = [(near[:, :k] ** gamma).sum() for k in ks]
        np.testing.assert_allclose(pt.ops.knn_distance_sums(points, ks, gamma), expected, rtol=1e-13)


def test_a_hand_computed_line():
    # Points 0, 1, 3: nearest distances 1, 1, 2 and then 3, 2, 3.
    line = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_allclose(pt.ops.knn_distances(line, 2), [[1, 3], [1, 2], [2, 3]])
    np.testing.assert_allclose(pt.ops.knn_distance_sums(line, [1, 2]), [4, 12])
    expected = [math.log(length) for length in (4, 12)]  # d = gamma = 1: S = log L
    np.testing.assert_allclose(pt.knn_graph_entropy(line, [1, 2], dim=1), expected)


def test_duplicates_are_neighbours_at_distance_zero():
    points = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]])
    assert pt.ops.knn_distances(points, 2).tolist() == [[0.0, 5.0], [0.0, 5.0], [5.0, 5.0]]


def test_coinciding_points_have_a_finite_entropy():
    entropy = pt.knn_graph_entropy(torch.ones(10, 3), [1, 9])
    expected = 2 * (math.log(1e-8) - 0.5 * math.log(10))
    np.testing.assert_allclose(entropy, [expected, expected])


@given(
    n=st.integers(3, 40),
    dim=st.integers(2, 30),
    factor=st.sampled_from([1e-6, 0.3, 50.0]),
    seed=st.integers(0, 10**6),
)
def test_entropy_of_moved_and_scaled_points(n, dim, factor, seed):
    points = normal(n, dim, seed=seed, dtype=torch.float64)
    ks = pt.default_ks(n)
    entropy = pt.knn_graph_entropy(points, ks)
    rotation = torch.linalg.qr(normal(dim, dim, seed=seed + 1, dtype=torch.float64)).Q
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    moved = (points @ rotation)[order] + 1.0
    torch.testing.assert_close(pt.knn_graph_entropy(moved, ks), entropy, rtol=0, atol=1e-11 * dim)
    scaled = pt.knn_graph_entropy(factor * points, ks)
    expected = entropy + (dim - 1) * math.log(factor)
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-11 * dim)


def test_batches_and_kinds():
    points = normal(2, 3, 20, 5, seed=1)
    ks = [1, 5]
    entropy = pt.knn_graph_entropy(points, ks)
    assert entropy.shape == (2, 3, 2)
    assert torch.equal(entropy[1, 2], pt.knn_graph_entropy(points[1, 2], ks))
    as_array = pt.knn_graph_entropy(points.numpy(), ks)
    assert isinstance(as_array, np.ndarray)
    np.testing.assert_array_equal(as_array, entropy.numpy())
    assert pt.knn_graph_entropy(points[:0], ks).shape == (0, 3, 2)
    swapped = points[0].transpose(0, 1)  # [20, 3, 5], not contiguous
    torch.testing.assert_close(
        pt.knn_graph_entropy(swapped, [2]), pt.knn_graph_entropy(swapped.contiguous(), [2])
    )


@pytest.mark.parametrize("dim", [24408, pytest.param(43692, marks=pytest.mark.slow)])
def test_published_entropy_of_the_uniform_sphere(dim):
    entropies = uniform_entropy(1000, dim, draws=4, ks=(50,))
    # One draw deviates by 0.17 and 0.17 nats (measured over 10 draws); the published mean has an error too.
    assert float(entropies.mean()) == pytest.approx(PUBLISHED_UNIFORM_ENTROPY[dim], abs=0.5)


def test_gaussian_entropy_differences():
    """S is exact up to a constant: a Gaussian twice as wide has d log 2 more, whatever its n points."""
    d, n = 6, 1500
    narrow = normal(n, d, seed=1, dtype=torch.float64)
    wide = 2.0 * normal(n, d, seed=2, dtype=torch.float64)
    ks = [10, 50]
    gain = pt.knn_graph_entropy(wide, ks, dim=d) - pt.knn_graph_entropy(narrow, ks, dim=d)
    # The entropy of n independent points has a deviation of about sqrt(d / 2 / n) nats: 0.04 each.
    np.testing.assert_allclose(gain, d * math.log(2), atol=0.2)


@pytest.mark.parametrize(
    ("points", "ks", "message"),
    [
        (torch.ones(5), [1], "shape must be"),
        (torch.ones(3, 0), [1], "dim: must be at least 1"),
        (torch.ones(3, 2), [3], "ks: 3 is not a number of neighbours among 3 points"),
        (torch.ones(3, 2), [0], "ks: 0 is not"),
        (torch.ones(3, 2), [1.5], "ks: 1.5 is not"),
        (torch.ones(3, 2), [], "ks: at least one"),
        (torch.ones(1, 2), [1], "ks: 1 is not"),
        (torch.tensor([[1.0, 2.0], [1.0, math.nan], [0.0, 0.0]]), [1], r"points: row \[1\] holds NaN"),
        (torch.tensor([[[1.0, 2.0], [1.0, math.inf]]]), [1], r"points: row \[0, 1\] holds NaN or inf"),
    ],
)
def test_wrong_values_are_named(points, ks, message):
    with pytest.raises(ValueError, match=message):
        pt.knn_graph_entropy(points, ks)


def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match="float16"):
        pt.knn_graph_entropy(torch.ones(5, 2, dtype=torch.float16), [1])
    with pytest.raises(TypeError, match="points: must be a torch tensor"):
        pt.knn_graph_entropy([[1.0, 2.0]], [1])
    with pytest.raises(ValueError, match="gamma: must be positive"):
        pt.knn_graph_entropy(torch.ones(5, 2), [1], gamma=0.0)
    with pytest.raises(ValueError, match="dim: must be at least 1"):
        pt.knn_graph_entropy(torch.ones(5, 2), [1], dim=0)


def test_default_ks():
    assert pt.DEFAULT_KS == (1, 2, 5, 10, 20, 50, 100, 200, 500, 999)
    assert pt.default_ks(2) == (1,)
    assert pt.default_ks(21) == (1, 2, 5, 10, 20)
    with pytest.raises(ValueError, match="n: at least 2"):
        pt.default_ks(1)


def test_trajectory_window():
    path = normal(25, 6, seed=1).cumsum(0)
    window = pt.TrajectoryEntropy(6, window=10)
    for t, point in enumerate(path):
        assert window.full == (t >= 10)
        entropy = window.entropy()
        if t < 10:
            assert entropy.isnan().all()
        else:
            expected = pt.knn_graph_entropy(path[t - 10 : t], window.ks)
            # The ring buffer holds the points in another order: sums in another order.
            torch.testing.assert_close(entropy, expected, rtol=1e-12, atol=0)
        window.append(point)


def test_trajectory_window_goes_on_from_its_state():
    path = normal(30, 6, seed=1)
    for stop in (3, 10, 17):
        whole, first, second = (pt.TrajectoryEntropy(6, window=10) for _ in range(3))
        for t, point in enumerate(path):
            whole.append(point)
            (first if t < stop else second).append(point)
            if t + 1 == stop:
                second.load_state_dict(first.state_dict())
        assert torch.equal(whole.entropy(), second.entropy())


def test_trajectory_window_refuses_other_points():
    window = pt.TrajectoryEntropy(6, window=10)
    with pytest.raises(ValueError, match=r"weights: must be torch.float32 of shape \[6\]"):
        window.append(torch.ones(5))
    with pytest.raises(ValueError, match=r"torch\.float32"):
        window.append(torch.ones(6).double())
    with pytest.raises(ValueError, match="window: must be at least 2"):
        pt.TrajectoryEntropy(6, window=1)
    with pytest.raises(ValueError, match="dim: must be at least 2"):
        pt.TrajectoryEntropy(1)
    with pytest.raises(TypeError, match=r"dtype: must be float32 or float64, not torch.int64"):
        pt.TrajectoryEntropy(6, window=10, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"state: a window of 10 points .* does not fit one of 20"):
        pt.TrajectoryEntropy(6, window=20).load_state_dict(window.state_dict())
    with pytest.raises(ValueError, match="ks: 50 is not"):
        pt.TrajectoryEntropy(6, window=10, ks=[50])
