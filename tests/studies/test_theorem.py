import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythermo import sphere
from pythermo.studies.checks import CalibrationError, require_passed
from pythermo.studies.theorem import closed_form_snr, snr_along_meridians, theorem_checks, two_samples


def test_the_papers_system_is_the_one_of_a_quarter():
    vectors = sphere.overparameterized().vectors
    np.testing.assert_allclose(np.abs(two_samples(0.25).vectors), np.abs(vectors), atol=1e-15)


@given(st.floats(0.05, 0.95), st.floats(0.02, 0.98), st.floats(0.01, 0.99))
def test_the_closed_form_is_the_snr_of_the_samples_gradients(spread, s, t):
    weights = np.array([np.sqrt(s * t), np.sqrt((1 - s) * t), np.sqrt(1 - t)])
    gradients = two_samples(spread).gradients(weights)
    mean = gradients.mean(axis=0)
    signal, noise = mean @ mean, np.square(gradients - mean).sum(axis=1).mean()
    assert closed_form_snr(t, s, spread) ** 2 == pytest.approx(signal / noise, rel=1e-8, abs=1e-10)


def test_published_values():
    """THEORY, section 13: 1 on the circles <x_i, w> = 0, 0.57735 and more at the pole, 0 at the saddle."""
    t = np.array([1e-9, 0.3, 0.7])
    # <x, w> = 0: (1 - R) s = R (1 - s), so s = R.
    np.testing.assert_allclose(closed_form_snr(t, 0.25, 0.25), 1.0)
    pole = closed_form_snr(1e-12, np.linspace(0, 1, 101), 0.25)
    assert pole.min() == pytest.approx(0.57735, abs=1e-5)
    assert closed_form_snr(1.0, 0.0, 0.25) == 0.0


@pytest.mark.parametrize("spread", [0.25, 0.6])
def test_the_simulator_measures_it(spread):
    found = snr_along_meridians(spread)
    checks = theorem_checks(found)
    if spread == 0.25:
        require_passed(checks)
    else:  # where R > 1/2 the least SNR is on the other meridian
        require_passed(checks[:1])
    found["snr"] = found["snr"] * (1 + 1e-9)
    with pytest.raises(CalibrationError, match="closed form"):
        require_passed(theorem_checks(found))
