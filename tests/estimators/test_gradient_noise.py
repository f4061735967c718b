import math

import numpy as np
import pytest
import torch
from reference import normal

import pythermo as pt

pytestmark = pytest.mark.usefixtures("kernels")  # the CPU's, and CUDA's emulated or on a device


def test_a_hand_computed_case():
    noise = pt.gradient_noise(np.array([3.0, 4.0]), np.array([[3.0, 5.0], [3.0, 0.0], [0.0, 4.0]]))
    assert noise.full_grad_norm == 5.0
    assert noise.rms_noise_norm == pytest.approx(math.sqrt((1 + 16 + 9) / 3))
    assert noise.mean_noise_norm == pytest.approx((1 + 4 + 3) / 3)
    assert noise.mean_squared_grad_norm == pytest.approx((34 + 9 + 16) / 3)
    assert noise.mean_grad_norm == pytest.approx((math.sqrt(34) + 3 + 4) / 3)
    assert noise.snr == pytest.approx(5.0 / math.sqrt(26 / 3))
    assert noise.snr_l1 == pytest.approx(5.0 / (8 / 3))
    assert noise.full_gradient == "given"


def test_streaming_gives_what_the_matrix_gives():
    full, grads = normal(100, seed=1), normal(20, 100, seed=2)
    assert pt.gradient_noise(full, grads) == pt.gradient_noise(full, iter(list(grads)))
    assert pt.gradient_noise_about_mean(grads) == pt.gradient_noise_about_mean(list(grads))


def test_about_the_mean_against_the_sums_over_pairs():
    grads = normal(7, 30, seed=1, dtype=torch.float64) + 1.0
    noise = pt.gradient_noise_about_mean(grads)
    products = grads @ grads.T
    pairs = float(products.sum() - products.trace()) / (7 * 6)
    assert noise.squared_full_grad_norm == pytest.approx(pairs)
    centered = (grads - grads.mean(0)).norm(dim=1)
    assert noise.rms_noise_norm == pytest.approx(math.sqrt(float(centered.square().sum()) / 6))
    assert noise.mean_noise_norm == pytest.approx(float(centered.mean()) * math.sqrt(7 / 6))
    # |g|^2 = |G|^2 + |g - G|^2 on average, and all three estimates are unbiased.
    assert noise.mean_squared_grad_norm == pytest.approx(
        noise.squared_full_grad_norm + noise.rms_noise_norm**2
    )
    assert noise.full_gradient == "mean"


def test_the_estimate_of_the_signal_is_unbiased():
    """The plain |mean g|^2 is too large by noise / m; here it would be 2.0 where 1.0 is true."""
    generator = np.random.default_rng(0)
    signal = np.zeros(50)
    signal[0] = 1.0
    estimates = [
        pt.gradient_noise_about_mean(signal + generator.standard_normal((50, 50))).squared_full_grad_norm
        for _ in range(100)
    ]
    # One estimate deviates by about 0.35: 0.035 for the mean.
    assert np.mean(estimates) == pytest.approx(1.0, abs=4 * 0.035)


def test_no_signal_gives_nan_not_zero():
    noise = pt.gradient_noise_about_mean(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert noise.squared_full_grad_norm == -1.0
    assert math.isnan(noise.full_grad_norm)
    assert math.isnan(noise.snr)


def test_no_noise_gives_infinity():
    assert pt.gradient_noise(torch.ones(3), torch.ones(4, 3)).snr == math.inf
    assert math.isnan(pt.gradient_noise(torch.zeros(3), torch.zeros(4, 3)).snr)


@pytest.mark.parametrize(
    ("full", "grads", "message"),
    [
        (torch.ones(3), torch.ones(4, 2), r"stochastic_grads\[0\]: must have the shape \[3\]"),
        (torch.ones(3, 1), torch.ones(4, 3), "full_grad: must have the shape"),
        (torch.ones(3), torch.ones(0, 3), "stochastic_grads: at least 1 needed"),
        (torch.tensor([1.0, math.nan]), torch.ones(4, 2), "full_grad: all elements must be finite"),
        (torch.ones(2), torch.tensor([[1.0, 1.0], [math.inf, 0.0]]), r"stochastic_grads\[1\]: all elements"),
    ],
)
def test_wrong_values_are_named(full, grads, message):
    with pytest.raises(ValueError, match=message):
        pt.gradient_noise(full, grads)


def test_about_the_mean_needs_two_gradients_twice():
    with pytest.raises(ValueError, match="at least 2 needed, 1 given"):
        pt.gradient_noise_about_mean(torch.ones(1, 3))
    with pytest.raises(TypeError, match="an iterator will not do"):
        pt.gradient_noise_about_mean(iter(torch.ones(4, 3)))
