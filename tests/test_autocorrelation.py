import numpy as np
import pytest

import pythermo as pt


def autoregressive(memory, series, n, seed=0):
    noise = np.random.default_rng(seed).normal(size=(series, n))
    values = np.empty((series, n))
    values[:, 0] = noise[:, 0] / np.sqrt(1 - memory**2)
    for t in range(1, n):
        values[:, t] = memory * values[:, t - 1] + noise[:, t]
    return values


@pytest.mark.parametrize("memory", [-0.5, 0.0, 0.5, 0.9])
def test_an_autoregressive_process(memory):
    # Its autocorrelation at lag t is memory^t, so the time is (1 + memory) / (1 - memory).
    expected = (1 + memory) / (1 - memory)
    found = pt.integrated_autocorrelation_time(autoregressive(memory, 64, 20_000))
    # One estimate has the relative variance 2 (2 * 5 + 1) time / n (Sokal), here at most 2 % in 64 series;
    # cutting the sum off at 5 times costs exp(-10) for a long memory, less than 4 % for a short one.
    assert found.mean() == pytest.approx(expected, rel=0.04)
    size = pt.effective_sample_size(autoregressive(memory, 64, 20_000))
    np.testing.assert_allclose(size, 20_000 / found)


def test_shapes_and_constants():
    assert pt.integrated_autocorrelation_time(autoregressive(0.5, 6, 100).reshape(2, 3, 100)).shape == (2, 3)
    assert pt.integrated_autocorrelation_time(np.zeros((0, 10))).shape == (0,)
    assert np.isnan(pt.effective_sample_size(np.full(10, 3.0)))
    assert np.isnan(pt.effective_sample_size([1.0, np.nan, 2.0]))
    many = autoregressive(0.5, 300, 50)
    np.testing.assert_allclose(
        pt.integrated_autocorrelation_time(many)[280], pt.integrated_autocorrelation_time(many[280])
    )
    with pytest.raises(ValueError, match="n >= 2"):
        pt.effective_sample_size([1.0])
