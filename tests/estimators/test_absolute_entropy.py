import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pythermo as pt
from pythermo.sphere import von_mises_fisher_entropy

RNG = np.random.default_rng


def uniform(*shape, seed=0):
    points = RNG(seed).normal(size=shape)
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def von_mises_fisher(clouds, n, temperature, seed=0):
    """Return points on S^2 by the inverse of the distribution function of their height."""
    rng = RNG(seed)
    u, turn = rng.random((clouds, n)), 2 * np.pi * rng.random((clouds, n))
    height = 1 + temperature * np.log(u + (1 - u) * np.exp(-2 / temperature))
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=-1)


@pytest.mark.parametrize("k", [1, 4, 499])
def test_uniform_on_the_sphere_has_no_bias(k):
    found = pt.kozachenko_leonenko_entropy(uniform(200, 500, 3), k, "sphere")
    # Exactly unbiased: 4.5 standard errors.
    assert abs(found.mean() - np.log(4 * np.pi)) < 4.5 * found.std() / np.sqrt(200)


@pytest.mark.parametrize("dim", [2, 4, 10, 64])
def test_uniform_on_other_spheres_has_no_bias(dim):
    from scipy.special import gammaln

    log_area = np.log(2) + dim / 2 * np.log(np.pi) - gammaln(dim / 2)
    found = pt.kozachenko_leonenko_entropy(uniform(200, 100, dim), 2, "sphere")
    assert abs(found.mean() - log_area) < 4.5 * found.std() / np.sqrt(200)


@pytest.mark.parametrize("temperature", [0.1, 0.005, 1e-6])
def test_von_mises_fisher(temperature):
    points = von_mises_fisher(20, 10_000, temperature)
    expected = von_mises_fisher_entropy(temperature, 3)
    # The bias of the docstrings, and 4.5 standard errors of 20 clouds: sqrt(3.1 / 10 000 / 20) = 0.004.
    nearest = pt.kozachenko_leonenko_entropy(points, 1, "sphere").mean()
    assert abs(nearest - expected) < 0.002 + 4.5 * 0.004
    counted = pt.sphere_histogram_entropy(points).mean()
    assert 0 < counted - expected < 0.015 + 4.5 * np.sqrt(1 / 10_000 / 20)


@pytest.mark.parametrize("width", [1.0, 1e-7])
def test_gaussian(width):
    points = 1.0 + width * RNG(3).normal(size=(20, 10_000, 2))
    found = pt.kozachenko_leonenko_entropy(points).mean()
    # At a width of 1e-7 around 1 the points themselves are rounded to 1e-9 of it.
    assert abs(found - np.log(2 * np.pi * np.e * width**2)) < 0.002 + 4.5 * 0.004


def test_histogram_of_the_uniform_sphere():
    found = pt.sphere_histogram_entropy(uniform(20, 10_000, 3))
    assert np.abs(found - np.log(4 * np.pi)).max() < 4.5 * 0.2 / np.sqrt(10_000)


@given(seed=st.integers(0, 100), scale=st.floats(1e-6, 1e6), dim=st.integers(1, 5), k=st.integers(1, 5))
def test_scale_shift_rotation_and_order(seed, scale, dim, k):
    points = RNG(seed).normal(size=(50, dim))
    rotation = np.linalg.qr(RNG(seed + 1).normal(size=(dim, dim)))[0]
    found = pt.kozachenko_leonenko_entropy(points, k)
    moved = pt.kozachenko_leonenko_entropy((scale * points @ rotation + 3.0 * scale)[::-1], k)
    # Differences of coordinates around 3 lose some 1e-15 of them; nearest distances may be 1e-4.
    assert moved == pytest.approx(found + dim * np.log(scale), abs=1e-9)
    on_sphere = uniform(50, 3, seed=seed)
    turned = on_sphere @ np.linalg.qr(RNG(seed).normal(size=(3, 3)))[0]
    assert pt.kozachenko_leonenko_entropy(turned, k, "sphere") == pytest.approx(
        pt.kozachenko_leonenko_entropy(on_sphere, k, "sphere"), abs=1e-9
    )


def test_shapes_and_duplicates():
    points = uniform(2, 3, 40, 3)
    assert pt.kozachenko_leonenko_entropy(points).shape == (2, 3)
    assert pt.sphere_histogram_entropy(points).shape == (2, 3)
    assert pt.kozachenko_leonenko_entropy(points[:0]).shape == (0, 3)
    twice = np.concatenate([points[0, 0], points[0, 0]])
    assert pt.kozachenko_leonenko_entropy(twice, 1) == -np.inf
    assert np.isfinite(pt.kozachenko_leonenko_entropy(twice, 2))
    assert pt.sphere_histogram_entropy(np.tile(points[0, 0, :1], (9, 1))) == -np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: pt.kozachenko_leonenko_entropy(p[0]), r"points: the shape must be \[..., n, D\]"),
        (lambda p: pt.kozachenko_leonenko_entropy(p[:1]), "n >= 2"),
        (lambda p: pt.kozachenko_leonenko_entropy(p, 0), "k: .* integers from 1 to 9 are allowed"),
        (lambda p: pt.kozachenko_leonenko_entropy(p, 10), "k: .* integers from 1 to 9 are allowed"),
        (
            lambda p: pt.kozachenko_leonenko_entropy(p, 1, "flat"),
            "geometry: must be one of euclidean, sphere, not 'flat'",
        ),
        (lambda p: pt.kozachenko_leonenko_entropy(2 * p, 1, "sphere"), r"points: row \[0\] has the norm 2"),
        (lambda p: pt.kozachenko_leonenko_entropy(p * np.nan), r"points: row \[0\] holds NaN"),
        (lambda p: pt.kozachenko_leonenko_entropy(uniform(5, 65), 1, "sphere"), "D must be 2 to 64"),
        (lambda p: pt.sphere_histogram_entropy(uniform(5, 4)), r"\[..., n, 3\]"),
        (lambda p: pt.sphere_histogram_entropy(p, 0), "bands: must be an integer from 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(uniform(10, 3))
