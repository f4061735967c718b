import math

import numpy as np
import pytest
import torch
from reference import normal

from pythermo.ops import sketch


@pytest.mark.parametrize(("dim", "size"), [(1, 1), (7, 3), (128, 128), (300, 7), (1000, 300)])
def test_adds_each_weight_once_with_a_sign(dim, size):
    # The sketch of a unit vector shows its sign and where it goes; that of any other is their sum.
    units = np.eye(dim)
    images = np.stack([sketch(unit, size, seed=3) for unit in units])
    assert (np.abs(images).sum(axis=1) == 1.0).all()
    assert (np.count_nonzero(images, axis=1) == 1).all()
    weights = normal(dim, seed=1).numpy()
    np.testing.assert_allclose(sketch(weights, size, seed=3), weights @ images, atol=1e-12)
    # Within a row of `size` weights no two share a sum.
    for start in range(0, dim, size):
        places = np.abs(images[start : start + size]).argmax(axis=1)
        assert len(set(places)) == len(places)
    if dim >= 128:
        assert not np.array_equal(images, np.stack([sketch(unit, size, seed=4) for unit in units]))


def test_keeps_squared_distances_on_average():
    a, b = normal(2, 2000, seed=1, dtype=torch.float64)
    exact = float((a - b).square().sum())
    size, seeds = 100, 400
    ratios = [
        float((sketch(a, size, seed) - sketch(b, size, seed)).square().sum()) / exact for seed in range(seeds)
    ]
    # Standard deviation sqrt(2 / size) = 0.14 each: the mean is known to 0.007, the deviation to 4 %.
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.025)
    assert np.std(ratios) == pytest.approx(math.sqrt(2 / size), rel=0.15)


def test_is_as_exact_as_the_weights():
    weights = normal(5000, seed=1)
    moved = weights.clone()
    moved[17] += 1e-6
    step = float((moved - weights).norm())
    apart = float((sketch(moved, 50) - sketch(weights, 50)).norm())
    assert apart == pytest.approx(step, rel=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="size: must be an integer from 1"):
        sketch(torch.ones(5), 0)
    with pytest.raises(ValueError, match=r"weights: must have the shape \[D\]"):
        sketch(torch.ones(5, 2), 2)
    with pytest.raises(TypeError, match="weights: the dtype must be"):
        sketch(torch.ones(5).half(), 2)
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match="seed: must be an integer from 0"):
            sketch(torch.ones(5), 2, seed)
    with pytest.raises(TypeError, match=r"size: must be an int, not 1\.5"):
        sketch(torch.ones(5), 1.5)
    with pytest.raises(ValueError, match="weights: no kernel for the device meta; there are some for cpu"):
        sketch(torch.ones(5, device="meta"), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_has_the_bits_of_the_cpu(cuda, on_cpu, dtype):
    for dim, size in ((1, 1), (1000, 1), (1000, 7), (5000, 300), (100, 1000)):
        weights = normal(dim, seed=1, dtype=dtype)
        assert torch.equal(sketch(weights, size, 3), on_cpu(sketch, weights, size, 3))
