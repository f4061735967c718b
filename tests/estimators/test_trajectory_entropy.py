import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import normal

import pythermo as pt

# Windows of few points are shorter than they seem: the warning has its own tests.
short_windows = pytest.mark.filterwarnings("ignore::pythermo.CorrelatedWindowWarning")


@short_windows
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


def test_the_mean_of_the_last_points():
    path = normal(14, 6, seed=1).float()
    window, sketched = (pt.TrajectoryEntropy(6, window=10, **how) for how in ({}, {"sketch": 3}))
    for point in path[:9]:
        window.append(point)
    assert window.mean().isnan().all()
    for point in path[9:]:
        window.append(point)
    torch.testing.assert_close(window.mean(), path[4:].double().mean(0))
    with pytest.raises(ValueError, match="sketch: a window of sketches"):
        sketched.mean()


@short_windows
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
    with pytest.raises(ValueError, match="window: must be an integer from 2"):
        pt.TrajectoryEntropy(6, window=1)
    with pytest.raises(ValueError, match="dim: must be an integer from 2"):
        pt.TrajectoryEntropy(1)
    with pytest.raises(TypeError, match=r"dtype: must be torch.float32 or torch.float64, not torch.int64"):
        pt.TrajectoryEntropy(6, window=10, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"state: a window of 10 points .* does not fit one of 20"):
        pt.TrajectoryEntropy(6, window=20).load_state_dict(window.state_dict())
    with pytest.raises(ValueError, match="ks: 50 is not"):
        pt.TrajectoryEntropy(6, window=10, ks=[50])
    with pytest.raises(ValueError, match="sketch: must be an integer from 1 to 6, not 7"):
        pt.TrajectoryEntropy(6, window=10, sketch=7)
    with pytest.raises(ValueError, match="state: a sketch of the seed 1 does not fit 0"):
        pt.TrajectoryEntropy(6, window=10, sketch=3).load_state_dict(
            pt.TrajectoryEntropy(6, window=10, sketch=3, seed=1).state_dict()
        )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(2, 12))
def test_windows_that_share_points_share_distances_to_the_bit(steps, window):
    """100 coordinates and few points: the distances are kept from one measurement to the next."""
    path = normal(sum(steps) + window, 100, seed=1).cumsum(0)
    shared = pt.TrajectoryEntropy(100, window=window)
    for point in path[:window]:
        shared.append(point)
    end = window
    for step in [0, *steps]:
        for point in path[end : end + step]:
            shared.append(point)
        end += step
        found = shared.estimate()
        fresh = pt.TrajectoryEntropy(100, window=window)
        fresh.load_state_dict(shared.state_dict())
        expected = fresh.estimate()
        assert torch.equal(found.entropy, expected.entropy)
        assert torch.equal(found.standard_error, expected.standard_error) or window < 4
        direct = pt.knn_graph_entropy(path[end - window : end], shared.ks)
        torch.testing.assert_close(found.entropy, direct, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dim", [5, 300])
def test_estimate_of_an_autoregressive_process(dim):
    """Both ways of keeping the window: with all distances (300 coordinates) and without (5)."""
    memory, n = 0.8, 300
    steps, window = normal(3 * n + 7, dim, seed=1, dtype=torch.float64), None
    window = pt.TrajectoryEntropy(dim, window=n, ks=[5, 299], dtype=torch.float64)
    point, path = steps[0], []
    for step in steps:
        point = memory * point + math.sqrt(1 - memory**2) * step
        window.append(point)
        path.append(point)
    last = torch.stack(path[-n:])
    found = window.estimate()
    torch.testing.assert_close(found.entropy, pt.knn_graph_entropy(last, [5, 299]), rtol=1e-12, atol=0)
    error = pt.knn_graph_entropy_error(last, [5, 299])
    torch.testing.assert_close(found.standard_error, error, rtol=1e-9, atol=0)
    assert found.effective_samples == pytest.approx(n / found.autocorrelation_time)
    # The mean squared displacement and the covariances weigh the window's ends differently.
    assert found.autocorrelation_time == pytest.approx(
        float(pt.trajectory_autocorrelation_time(last.numpy())), rel=0.25
    )
    if dim == 300:  # so many coordinates know the time, 9, well, and the window is 33 of it
        assert found.autocorrelation_time == pytest.approx(9, rel=0.25)


@pytest.mark.parametrize("dim", [5, 300])
def test_a_drifting_window_warns_once_and_an_independent_one_does_not(dim):
    drifting, independent = (pt.TrajectoryEntropy(dim, window=100, ks=[5]) for _ in range(2))
    noise = normal(100, dim, seed=1)
    for t in range(100):
        drifting.append(t * torch.ones(dim) + 0.1 * noise[t])
        independent.append(noise[t])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        independent.entropy()
        drifting.estimate()
    with pytest.warns(
        pt.CorrelatedWindowWarning, match="a window of 100 points with an autocorrelation time"
    ):
        drifting.entropy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drifting.entropy()
    assert drifting.estimate().effective_samples < 5


def test_an_estimate_is_nothing_until_the_window_is_full():
    window = pt.TrajectoryEntropy(6, window=10)
    window.append(torch.ones(6))
    found = window.estimate()
    assert found.entropy.isnan().all()
    assert found.standard_error.isnan().all()
    assert math.isnan(found.autocorrelation_time)


def test_equal_points_have_no_autocorrelation_time():
    for dim in (3, 100):
        window = pt.TrajectoryEntropy(dim, window=10, ks=[1])
        for _ in range(10):
            window.append(torch.ones(dim))
        assert math.isnan(window.estimate().autocorrelation_time)
        assert window.entropy() == pytest.approx(
            (dim - 1) * (math.log(1e-8) - (dim - 2) / (dim - 1) * math.log(10))
        )


@pytest.mark.parametrize("kind", ["independent", "walk"])
def test_entropy_of_a_sketched_window_is_as_far_off_as_stated(kind):
    dim, n, size = 20_000, 200, 400
    points = normal(n, dim, seed=1) / math.sqrt(dim)
    if kind == "walk":
        points = 1e-3 * points.cumsum(0)
    exact = pt.knn_graph_entropy(points, [10, n - 1])
    errors = []
    for seed in range(8):
        window = pt.TrajectoryEntropy(dim, window=n, ks=[10, n - 1], sketch=size, seed=seed)
        for point in points:
            window.append(point)
        errors.append((window.estimate().entropy - exact) / (dim - 1))
    mean, deviation = torch.stack(errors).mean(0), torch.stack(errors).std(0)
    centered = points - points.mean(0)
    spectrum = torch.linalg.svdvals(centered.double()).square()
    directions = float(spectrum.sum() ** 2 / spectrum.square().sum())
    stated = 1 / math.sqrt(2 * size * directions)
    # Eight draws know a deviation to a quarter, and the mean to a third of the deviation.
    assert deviation[1] < 2.0 * stated
    assert deviation[1] > 0.4 * stated
    assert mean[1] == pytest.approx(-1 / (4 * size), abs=1.2 * stated)
    # k = 10 of 200 is the lowest 5 %, as k = 50 of 1000.
    assert -2.06 / math.sqrt(2 * size) - stated < mean[0] < 2.0 * stated
