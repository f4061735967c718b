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


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_mean_of_a_short_series_does_not_lower_the_time(memory):
    # 200 samples are 22 times 9: each autocorrelation is 0.04 too low, the sum over 5 times by a third.
    found = pt.integrated_autocorrelation_time(autoregressive(memory, 4000, 200))
    assert found.mean() == pytest.approx((1 + memory) / (1 - memory), rel=0.1)


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_a_series_too_short_claims_no_more_values_than_a_few_times_its_own(n):
    # With lags up to the last the sum is zero, whatever the series: n^2 effective samples.
    size = pt.effective_sample_size(autoregressive(0.0, 2000, n))
    assert 0.5 * n < np.median(size) < 2.5 * n


def test_a_drift_counts_as_a_few_values():
    assert pt.effective_sample_size(np.arange(1000.0)) < 5


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
