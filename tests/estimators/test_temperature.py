import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pythermo as pt


def exact_points(n: int = 12, prefactor: float = 0.03, exponent: float = 0.85):
    """Return (lr, U, S) on a curve along which dU/dS = T = prefactor * lr ** exponent."""
    lr = np.logspace(-4, -1, n)
    entropy = 100.0 * np.log(lr)
    energy = 100.0 * prefactor / exponent * lr**exponent  # dU = T dS
    return lr, energy, entropy, prefactor * lr**exponent


def test_recovers_the_temperature_of_a_convex_curve():
    lr, energy, entropy, temperature = exact_points(200)
    fit = pt.fit_temperature(lr, energy, entropy, smoothing=0.0)
    assert fit.feasible.all()
    assert (fit.lower[1:] <= temperature[1:] * (1 + 1e-12)).all()
    assert (fit.upper[:-1] >= temperature[:-1] * (1 - 1e-12)).all()
    # The geometric mean of the slopes to the left and right is the derivative to second order: with
    # h = 3 log(10) / 199 between points, the error is about (a h)^2 / 24 = 4e-5.
    np.testing.assert_allclose(fit.temperature[1:-1], temperature[1:-1], rtol=5e-5)
    assert fit.exponent == pytest.approx(0.85, abs=1e-9)
    assert fit.prefactor == pytest.approx(0.03, rel=5e-5)
    assert fit.exponent_stderr < 1e-9


def test_a_hand_computed_case():
    # Slopes: 1 from the first to the second, 2 from the second to the third, 5/3 across.
    fit = pt.fit_temperature([0.1, 0.2, 0.3], [0.0, 1.0, 5.0], [0.0, 1.0, 3.0], smoothing=0.0)
    np.testing.assert_allclose(fit.lower, [1.0, 1.0, 2.0])
    np.testing.assert_allclose(fit.upper, [1.0, 2.0, 2.0])
    np.testing.assert_allclose(fit.temperature, [1.0, np.sqrt(2.0), 2.0])
    assert fit.feasible.all()
    assert fit.fitted.tolist() == [False, True, False]
    assert np.isnan(fit.exponent)
    assert len(fit.excluded) == 0


def test_a_tolerance_widens_the_interval():
    fit = pt.fit_temperature([0.1, 0.2, 0.3], [0.0, 1.0, 5.0], [0.0, 1.0, 3.0], 0.5, smoothing=0.0)
    np.testing.assert_allclose(fit.lower, [1.5, 0.5, 1.75])
    np.testing.assert_allclose(fit.upper, [1.5, 2.25, 1.75])


def test_a_point_above_the_hull_is_marked():
    lr, energy, entropy, _ = exact_points()
    energy = energy.copy()
    energy[5] += 0.5 * (energy[6] - energy[4])
    fit = pt.fit_temperature(lr, energy, entropy, smoothing=0.0)
    assert np.flatnonzero(~fit.feasible).tolist() == [5]
    assert fit.lower[5] > fit.upper[5]
    assert pt.fit_temperature(lr, energy, entropy, tolerance=1.0, smoothing=0.0).feasible[5]


def test_the_fitted_temperature_makes_its_point_the_minimizer():
    lr, energy, entropy, _ = exact_points()
    fit = pt.fit_temperature(lr, energy, entropy, smoothing=0.0)
    free = pt.free_energy(fit.energy, fit.entropy, fit.temperature)
    assert free.shape == (12, 12)
    np.testing.assert_array_equal(free[1:-1].argmin(axis=1), np.arange(1, 11))


def test_smoothing_is_a_triangular_kernel_in_natural_log():
    lr = 0.01 * np.exp(0.2 * np.arange(4))  # weights 0.3 and, at the next neighbors, 0.1
    energy = np.array([0.0, 1.0, 5.0, 9.0])
    fit = pt.fit_temperature(lr, energy, energy, smoothing=0.3)
    expected = [0.0, (0.3 * 1 + 0.1 * 0 + 0.1 * 5) / 0.5, (0.3 * 5 + 0.1 * 1 + 0.1 * 9) / 0.5, 9.0]
    np.testing.assert_allclose(fit.energy, expected)
    np.testing.assert_allclose(fit.entropy, expected)


@given(order=st.permutations(range(8)))
def test_order_does_not_matter_and_nan_points_are_reported(order):
    lr, energy, entropy, _ = exact_points(8)
    energy[2], entropy[6] = np.nan, np.nan
    fit = pt.fit_temperature(lr[order], energy[order], entropy[order])
    clean = np.array([0, 1, 3, 4, 5, 7])
    expected = pt.fit_temperature(lr[clean], energy[clean], entropy[clean])
    np.testing.assert_array_equal(fit.temperature, expected.temperature)
    np.testing.assert_array_equal(fit.lr, lr[clean])
    np.testing.assert_array_equal(fit.excluded, lr[[2, 6]])
    assert fit.exponent == expected.exponent


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units(scale, shift):
    """T has the unit of U over that of S, and neither zero matters."""
    lr, energy, entropy, _ = exact_points(8)
    fit = pt.fit_temperature(lr, energy, entropy)
    other = pt.fit_temperature(lr, scale * energy, entropy + shift)
    np.testing.assert_allclose(other.temperature, scale * fit.temperature, rtol=1e-6)


def test_decreasing_energy_has_no_temperature():
    fit = pt.fit_temperature([1e-3, 1e-2, 1e-1], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0], smoothing=0.0)
    assert fit.feasible.tolist() == [False, False, True]
    assert np.isnan(fit.temperature[:2]).all()
    assert fit.temperature[2] == 0.0


def test_equal_entropies_say_nothing():
    fit = pt.fit_temperature([1e-3, 1e-2], [3.0, 2.0], [1.0, 1.0])
    assert np.isnan(fit.temperature).all()
    assert fit.feasible.tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [1.0], [1.0, 2.0]), "same length"),
        (([0.1, 0.1], [1.0, 2.0], [1.0, 2.0]), "only once"),
        (([0.1, -0.1], [1.0, 2.0], [1.0, 2.0]), "lr: all learning rates must be positive"),
        (([0.1, 0.2], [1.0, np.inf], [1.0, 2.0]), "energy: holds an infinite value at index 1"),
        (([0.1, 0.2], [1.0, np.nan], [1.0, 2.0]), "at least 2 points without NaN"),
        (([[0.1, 0.2]], [1.0, 2.0], [1.0, 2.0]), "lr: must have one dimension"),
        (([0.1, 0.2], [1.0, 2.0], [1.0, 2.0], -1.0), "tolerance: must be finite and not negative"),
        (([0.1, 0.2], [1.0, 2.0], [1.0, 2.0], 0.0, np.nan), "smoothing: must be finite"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pt.fit_temperature(*arguments)


def test_power_law_against_the_textbook():
    # log-log points (0, 0), (1, 1), (2, 1): slope 1/2, intercept 1/6, residual variance 1/6.
    law = pt.fit_power_law(np.exp([0.0, 1.0, 2.0]), np.exp([0.0, 1.0, 1.0]))
    assert law.exponent == pytest.approx(0.5)
    assert law.prefactor == pytest.approx(np.exp(1 / 6))
    assert law.exponent_stderr == pytest.approx(np.sqrt(1 / 6 / 2))
    assert law.prefactor_stderr == pytest.approx(np.exp(1 / 6) * np.sqrt(1 / 6 * (1 / 3 + 1 / 2)))
    assert np.isnan(pt.fit_power_law([1.0], [1.0]).exponent)
    assert np.isnan(pt.fit_power_law([1.0, 2.0], [1.0, 2.0]).exponent_stderr)
    with pytest.raises(ValueError, match="y: all values must be positive"):
        pt.fit_power_law([1.0, 2.0], [1.0, 0.0])


def test_power_law_errors_cover_the_truth():
    generator = np.random.default_rng(0)
    x = np.logspace(-4, -1, 10)
    deviations = []
    for _ in range(500):
        law = pt.fit_power_law(x, 2.0 * x**0.7 * np.exp(0.1 * generator.standard_normal(10)))
        deviations.append((law.exponent - 0.7) / law.exponent_stderr)
    # Student's t with 8 degrees of freedom has the deviation sqrt(8 / 6).
    assert np.std(deviations) == pytest.approx(np.sqrt(8 / 6), rel=0.15)


def test_free_energy_broadcasts_over_temperatures():
    free = pt.free_energy([1.0, 2.0], [10.0, 20.0], [[0.0], [0.1], [1.0]])
    assert free.shape == (3, 1, 2)
    np.testing.assert_allclose(free[:, 0], [[1, 2], [0, 0], [-9, -18]])
    assert pt.free_energy([1.0], [2.0], 0.5).shape == (1,)


def test_temperature_along_a_run():
    t = np.arange(1.0, 30.0)
    energy, entropy = 5.0 / t, np.log(5.0 / t)  # dU/dS = U
    temperature = pt.temperature_along_run(energy, entropy, half_width=1)
    assert np.isnan(temperature[[0, -1]]).all()
    np.testing.assert_allclose(temperature[10:-1], energy[10:-1], rtol=0.01)
    assert np.isnan(pt.temperature_along_run(energy, entropy)[[0, 1, -2, -1]]).all()
    assert np.isnan(pt.temperature_along_run(energy, np.ones(29))).all()
    assert np.isnan(pt.temperature_along_run([1.0, 2.0], [1.0, 2.0])).all()
    with pytest.raises(ValueError, match="half_width"):
        pt.temperature_along_run(energy, entropy, half_width=0)
