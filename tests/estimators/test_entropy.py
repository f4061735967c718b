import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import normal

import pythermo as pt
from pythermo.sweeps.baseline import uniform_entropy

# arXiv 2505.23489: n = 1000 points uniform on the unit sphere, k = 50, mean of 10 draws.
PUBLISHED_UNIFORM_ENTROPY = {24408: 103784.74, 43692: 185853.23}


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


@pytest.mark.parametrize("dim", [24408, 43692])
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
    gain = pt.knn_graph_entropy(wide, ks, intrinsic_dim=d) - pt.knn_graph_entropy(narrow, ks, intrinsic_dim=d)
    # The entropy of n independent points has a deviation of about sqrt(d / 2 / n) nats: 0.04 each.
    np.testing.assert_allclose(gain, d * math.log(2), atol=0.2)


@pytest.mark.parametrize(
    ("points", "ks", "message"),
    [
        (torch.ones(5), [1], "shape must be"),
        (torch.ones(3, 0), [1], "points: the shape must be"),
        (torch.ones(3, 1), [1], "intrinsic_dim: must be given for points of 1 coordinate"),
        (torch.ones(3, 2), [3], "ks: 3 is not a number of neighbors among 3 points"),
        (torch.ones(3, 2), [0], "ks: 0 is not"),
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
    with pytest.raises(ValueError, match="intrinsic_dim: must be an integer from 1"):
        pt.knn_graph_entropy(torch.ones(5, 2), [1], intrinsic_dim=0)
    with pytest.raises(TypeError, match=r"intrinsic_dim: must be an int, not 2\.5"):
        pt.knn_graph_entropy(torch.ones(5, 2), [1], intrinsic_dim=2.5)
    with pytest.raises(TypeError, match=r"ks: must be an int, not 1\.5"):
        pt.knn_graph_entropy(torch.ones(5, 2), [1.5])


def test_default_ks():
    assert pt.DEFAULT_KS == (1, 2, 5, 10, 20, 50, 100, 200, 500, 999)
    assert pt.default_ks(2) == (1,)
    assert pt.default_ks(21) == (1, 2, 5, 10, 20)
    assert pt.default_ks(1000) == pt.DEFAULT_KS
    assert pt.default_ks(1200) == (*pt.DEFAULT_KS, 1199)
    with pytest.raises(ValueError, match="n: at least 2"):
        pt.default_ks(1)


@pytest.mark.parametrize("n", [2, 30, 500, 1000, 1200])
def test_numbers_of_neighbors_that_fit_are_taken_where_none_are_given(n):
    cloud, ks = normal(n, 3, seed=1), pt.default_ks(n)
    assert torch.equal(pt.knn_graph_entropy(cloud), pt.knn_graph_entropy(cloud, ks))
    assert torch.equal(pt.gradient_cloud_entropy(cloud, 0.1), pt.gradient_cloud_entropy(cloud, 0.1, ks))
    if n >= 30:
        error = pt.knn_graph_entropy_error(cloud, blocks=3)
        assert torch.equal(error, pt.knn_graph_entropy_error(cloud, ks, blocks=3))
    assert pt.TrajectoryEntropy(3, window=n).ks == list(ks)


def test_one_point_has_no_neighbor():
    for entropy in (pt.knn_graph_entropy, pt.knn_graph_entropy_error):
        with pytest.raises(ValueError, match="points: at least 2 points"):
            entropy(torch.ones(1, 3))


def test_gradient_cloud():
    grads = normal(40, 30, seed=1)
    ks = [1, 10, 39]
    # d log(lr) more than the gradients themselves, without rounding them once more.
    expected = pt.knn_graph_entropy(0.01 * grads.double(), ks)
    torch.testing.assert_close(pt.gradient_cloud_entropy(grads, 0.01, ks), expected, rtol=1e-8, atol=0)
    for gamma in (0.5, 2.0):
        expected = pt.knn_graph_entropy(0.01 * grads.double(), ks, gamma=gamma)
        found = pt.gradient_cloud_entropy(grads, 0.01, ks, gamma=gamma)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    # Gradients of a converged network, whose squares float32 does not hold.
    tiny = pt.gradient_cloud_entropy(1e-22 * normal(40, 30, seed=1), 1.0, ks)
    assert torch.equal(tiny, pt.knn_graph_entropy(torch.zeros(40, 30), ks))
    with pytest.raises(ValueError, match="lr: must be positive"):
        pt.gradient_cloud_entropy(grads, 0.0, ks)
    with pytest.raises(ValueError, match=r"grads: the shape must be \[\.\.\., n, D\]"):
        pt.gradient_cloud_entropy(grads[0], 0.1, ks)


@pytest.mark.parametrize(("dim", "memory"), [(3, 0.0), (3, 0.8), (50, 0.0), (50, 0.8)])
def test_standard_error_is_that_over_repetitions(dim, memory):
    generator = np.random.default_rng(1)
    clouds = generator.normal(size=(40, 400, dim))
    for t in range(1, 400):
        clouds[:, t] = memory * clouds[:, t - 1] + math.sqrt(1 - memory**2) * clouds[:, t]
    ks = [5, 50, 399]
    found = pt.knn_graph_entropy(clouds, ks, intrinsic_dim=dim).std(axis=0, ddof=1)
    claimed = np.sqrt((pt.knn_graph_entropy_error(clouds, ks, intrinsic_dim=dim) ** 2).mean(axis=0))
    # Each deviation is known to 1 / sqrt(2 * 39) = 11 %; the docstring allows 0.8 to 1.3.
    assert (claimed > 0.65 * found).all()
    assert (claimed < 1.6 * found).all()


def test_standard_error_by_hand():
    points = normal(6, 2, seed=1, dtype=torch.float64)
    parts = torch.stack(
        [pt.knn_graph_entropy(points[keep], [1, 3]) for keep in ([2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3])]
    )
    expected = (2 / 3 * ((parts - parts.mean(0)) ** 2).sum(0)).sqrt()
    # k = 5 is cut to the 3 neighbors among 4 points.
    torch.testing.assert_close(pt.knn_graph_entropy_error(points, [1, 5], blocks=3), expected)
    assert pt.knn_graph_entropy_error(points.expand(2, 3, 6, 2), [1], blocks=2).shape == (2, 3, 1)
    for blocks in (1, 4):
        with pytest.raises(ValueError, match="blocks: must be an integer from 2 to 3 for 6 points"):
            pt.knn_graph_entropy_error(points, [1], blocks=blocks)
