"""What arXiv 2505.23489 says of the three-dimensional toy, and what Lemma 1 there says of its SNR."""

import numpy as np
import pytest

from pythermo import sphere

UP, OP = sphere.underparameterized(), sphere.overparameterized()
on_all_kernels = pytest.mark.usefixtures("kernels")  # the CPU's, and CUDA's emulated or on a device


def paper_run(system, lrs, replicas=1, **kind):
    return sphere.simulate(system, lrs, 50_000, start=sphere.PAPER_START, replicas=replicas, **kind)


def test_least_losses():
    assert UP.min_loss == pytest.approx(0.038461538461538464, rel=1e-14)
    assert UP.loss([0, 0, 1]) == pytest.approx(UP.min_loss, rel=1e-14)
    assert UP.loss([0, 0, -3]) == pytest.approx(UP.min_loss, rel=1e-14)
    assert OP.min_loss == 0.0
    assert OP.loss([0, 0, 1]) == 0.0


@on_all_kernels
def test_op_converges_below_a_learning_rate_of_one_only():
    lrs = np.array([0.01, 0.1, 0.5, 0.9, 0.99, 1.1, 2.0])
    loss = paper_run(OP, lrs, replicas=8)["loss"].isel(step=0)
    # Machine zero: a change of the weights by 1e-16 changes the loss by its square.
    assert (loss.sel(lr=lrs[:5]) < 1e-31).all()
    assert (loss.sel(lr=lrs[5:]).max("replica") > 1e-3).all()


@on_all_kernels
def test_op_snr_settles_at_a_constant():
    # Small learning rates end up along the slow direction, where SNR = 1 / sqrt(3).
    found = paper_run(OP, [0.001, 0.002, 0.005])
    # The last steps leave it 0.003 away.
    np.testing.assert_allclose(found["snr"].squeeze(), 0.57735, atol=5e-3)
    later = sphere.simulate(OP, 0.005, 180_000, start=sphere.PAPER_START)
    # The SNR stays right where the squares of the gradients underflow.
    assert (later["full_grad_norm"] < 1e-170).all()
    assert (later["loss"] == 0).all()
    np.testing.assert_allclose(later["snr"].squeeze(), 0.57735, atol=5e-3)


@on_all_kernels
def test_up_stays_above_its_minimum():
    lrs = np.array([1e-3, 1e-2, 0.1, 0.4])
    found = paper_run(UP, lrs, replicas=16, window=1000, stride=10, measure_at=np.arange(40_000, 50_001, 100))
    excess = found["window_loss"] - UP.min_loss
    assert (np.diff(excess.mean(("replica", "window"))) > 0).all()
    snr = found["snr"]
    assert (np.diff(snr.mean(("replica", "step"))) > 0).all()
    # The published values at both ends are those of single iterates: typical ones among ours.
    for values, published in ((excess, (1e-5, 2e-2)), (snr, (0.02, 0.45))):
        for lr, value in zip(lrs[[0, -1]], published, strict=True):
            low, high = values.sel(lr=lr).quantile([0.05, 0.95])
            assert low < value < high
    np.testing.assert_allclose(found["mean_grad_norm"].mean(("replica", "step"))[:3], 0.38, atol=0.02)


def test_chains_are_independent():
    replicas = 512
    found = sphere.simulate(
        UP, 0.05, 60_000, replicas=replicas, window=4000, stride=10, record=("window_loss",)
    )
    mean, variance = found["window_loss_mean"].squeeze("lr"), found["window_loss_variance"].squeeze("lr")
    standard_error = variance / found["effective_samples"].squeeze("lr")
    square = float((((mean - mean.mean()) ** 2) / standard_error.mean()).sum())
    # Chi-square of 511 degrees of freedom, 5 standard deviations to each side, and 5 % for the estimated
    # autocorrelation time.
    freedom = replicas - 1
    assert abs(square / freedom - 1) < 5 * np.sqrt(2 / freedom) + 0.05
    # Neighbors in a vector are not correlated: 5 standard errors.
    correlation = np.corrcoef(mean.values[:-1], mean.values[1:])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(replicas)
