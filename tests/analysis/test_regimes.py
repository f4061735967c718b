import numpy as np
import pytest
import xarray as xr
from made import planted

from pythermo.analysis.regimes import longest_stretch, regimes
from pythermo.analysis.temperatures import analyze, estimate_of_fit
from pythermo.config.preset import FitConfig


def test_planted_regimes_are_found():
    analysis = analyze(planted(), 20, FitConfig())
    expected = ["convergence"] * 3 + ["equilibrium"] * 3 + ["jump"] + ["equilibrium"] * 2 + ["chaos"] * 3
    assert analysis.stationary["regime"].values.tolist() == expected
    np.testing.assert_array_equal(analysis.fit.lr, planted()["lr"][3:9])
    assert analysis.range_of_fit == "those in equilibrium"


def test_a_fit_range_that_is_given_stays():
    analysis = analyze(planted(), 20, FitConfig(first=4, last=8))
    np.testing.assert_array_equal(analysis.fit.lr, planted()["lr"][4:9])
    assert analysis.range_of_fit == "as given"


def test_a_slow_fall_is_no_convergence():
    sweep = planted()
    t = sweep["iteration"].values
    sweep["loss"][0] = t**-0.05
    sweep["loss"][1] = t**-0.5
    sweep["entropy"][1, :, 0] = np.log(t)  # which rises
    assert regimes(sweep, 20, 50)[:3, 0].values.tolist() == ["equilibrium", "equilibrium", "convergence"]


@pytest.mark.parametrize(
    ("energy", "entropy", "expected"),
    [
        (0.0, -1000.0, "convergence"),  # exactly fitted
        (1e-12, None, "convergence"),  # and but for rounding
        (0.5, -1000.0, "convergence"),  # iterates that do not move
        (np.nan, None, "unknown"),
    ],
)
def test_runs_that_have_ended_are_not_in_equilibrium(energy, entropy, expected):
    sweep = planted()
    sweep["loss"][4] = energy
    if entropy is not None:
        sweep["entropy"][4] = entropy
    assert regimes(sweep, 20, 50)[4, 0] == expected


def test_a_sweep_that_lacks_the_loss_of_constant_predictions_is_refused():
    sweep = planted()
    del sweep.attrs["constant_loss"]
    with pytest.raises(ValueError, match="sweep: lacks the attribute constant_loss"):
        analyze(sweep, 20, FitConfig())


def test_without_two_neighbors_in_equilibrium_all_have_a_temperature_and_none_a_law():
    sweep = planted().isel(lr=[0, 1, 3, 9])
    analysis = analyze(sweep, 20, FitConfig())
    assert len(analysis.fit.lr) == 4
    assert "no two neighboring learning rates are in equilibrium" in analysis.range_of_fit
    assert not analysis.has_law
    assert np.isnan([analysis.fit.prefactor, analysis.fit.exponent, analysis.fit.exponent_stderr]).all()
    estimate = estimate_of_fit(sweep, analysis, 20)
    assert (estimate.temperature[1:-1] > 0.0).any()
    assert np.isnan([estimate.exponent, estimate.reference_temperature]).all()
    assert estimate.exponent_interval is None


def test_a_range_that_is_given_has_a_law_whatever_its_regimes():
    analysis = analyze(planted().isel(lr=[0, 1, 3, 9]), 20, FitConfig(first=0))
    assert analysis.has_law
    assert np.isfinite(analysis.fit.exponent)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("", (0, 0)), ("0", (0, 0)), ("1", (0, 1)), ("0110", (1, 3)), ("1101", (0, 2)), ("10011", (3, 5))],
)
def test_the_longest_stretch(chosen, expected):
    found = longest_stretch(np.array([one == "1" for one in chosen], dtype=bool))
    assert (found.start, found.stop) == expected


def test_the_regime_of_a_learning_rate_is_that_of_most_seeds():
    one = planted()
    sweep = xr.concat([one, one, one.copy(deep=True)], dim="seed").assign_coords(seed=[0, 1, 2])
    sweep["loss"][2, 10] = 0.5  # below the loss of a constant prediction: this seed is not chaotic
    sweep["loss"][1:, 7] = 3.0
    sweep["loss"][0, 0], sweep["loss"][1, 0] = 3.0, 0.5
    analysis = analyze(sweep, 20, FitConfig(first=3, last=6))
    found = analysis.stationary["regime"].values
    assert (found[0], found[3], found[7], found[10]) == ("mixed", "equilibrium", "chaos", "chaos")
    np.testing.assert_allclose(analysis.stationary["regime_share"][[0, 3, 7, 10]], [1 / 3, 1.0, 2 / 3, 2 / 3])
