import numpy as np
import pytest
import xarray as xr
from made import late_sweep, made_sweep, setup

from pythermo.analysis.stationary import shown_error, stationary
from pythermo.analysis.temperatures import analyze
from pythermo.config.preset import FitConfig
from pythermo.reports.sweeps import temperature_table


def test_stationary_values_are_those_of_the_last_measurements():
    sweep = made_sweep()
    values = stationary(sweep, last=5)
    np.testing.assert_allclose(values["energy"], sweep["loss"][:, -5:].mean("iteration"))
    np.testing.assert_allclose(values["entropy_std"], sweep["entropy"].sel(k=50)[:, -5:].std("iteration"))
    # Half of the estimates of |G|^2 are 5, half are -1, and the noise is 4: none may be left out.
    np.testing.assert_allclose(stationary(sweep, last=6)["snr"], np.sqrt(2.0 / 4.0))
    with pytest.raises(ValueError, match="k: the sweep has no entropies for 7 neighbors"):
        stationary(sweep, last=5, k=7)
    with pytest.raises(ValueError, match="last: must lie between 1 and"):
        stationary(sweep, last=500)


def test_an_unknown_entropy_is_not_averaged_away():
    sweep = made_sweep()
    sweep["entropy"][2, -1] = np.nan
    made = setup(sweep, fit={})
    assert made.analysis.fit.excluded.tolist() == made.estimate.excluded.tolist() == [float(sweep["lr"][2])]
    remarks = [row[-1] for row in temperature_table(made).rows]
    assert remarks.count("left out: U or S is not known") == 1


def test_the_fit_range():
    sweep = made_sweep()
    whole = analyze(sweep, 3, FitConfig())
    np.testing.assert_array_equal(whole.fit.lr, sweep["lr"])
    part = analyze(sweep, 3, FitConfig(first=2, last=5))
    np.testing.assert_array_equal(part.fit.lr, sweep["lr"][2:6])
    np.testing.assert_array_equal(analyze(sweep, 3, FitConfig(last=-3)).fit.lr, sweep["lr"][:-2])
    assert part.fit.exponent == pytest.approx(0.85, abs=0.05)
    with pytest.raises(ValueError, match="holds 1 of the sweep's 8 learning rates"):
        analyze(sweep, 3, FitConfig(first=7))


def test_several_seeds_give_their_mean_and_its_standard_error():
    random = np.random.default_rng(0)
    shifts = random.normal(size=(5, 8))
    ones = []
    for seed, shift in enumerate(shifts):
        one = made_sweep()
        one["loss"] = one["loss"] + xr.DataArray(shift, dims="lr")
        ones.append(one.assign_coords(seed=seed))
    sweep = xr.concat(ones, dim="seed").transpose("lr", "seed", ...)
    values, one = stationary(sweep, last=5), stationary(made_sweep(), last=5)
    np.testing.assert_allclose(values["energy"], one["energy"] + shifts.mean(axis=0))
    np.testing.assert_allclose(values["energy_error"], shifts.std(axis=0, ddof=1) / np.sqrt(5))
    np.testing.assert_array_equal(shown_error(values, "energy"), values["energy_error"])
    np.testing.assert_allclose(values["snr"], one["snr"])
    assert np.isnan(one["energy_error"]).all()
    np.testing.assert_array_equal(shown_error(one, "energy"), one["energy_std"])


def test_the_number_of_measurements_is_that_of_the_configuration(tmp_path):
    from tiny import TINY

    sweep = made_sweep().assign_attrs(config=TINY.to_toml())
    assert TINY.measurement.stationary == 2
    assert analyze(sweep).stationary.identical(analyze(sweep, 2).stationary)
    assert not analyze(sweep).stationary.identical(analyze(sweep, 3).stationary)


@pytest.mark.parametrize(
    ("drifting", "fit", "fitted", "origin"),
    [
        ((), FitConfig(), range(8), "those in equilibrium"),
        ((0, 1), FitConfig(), range(2, 8), "those in equilibrium, but for 2 that drift"),
        ((1, 7), FitConfig(first=1, last=6), range(2, 7), "as given, but for 1 that drifts"),
        ((0,), FitConfig(first=2, last=6), range(2, 7), "as given"),
        ((2, 5), FitConfig(first=2, last=6, drifting=True), range(2, 7), "as given, 2 of which drift"),
        ((2, 3, 4), FitConfig(first=2, last=5), range(2, 6), "as given, although 3 of 4 drift"),
    ],
)
def test_the_fit_takes_what_is_stationary(drifting, fit, fitted, origin):
    sweep = late_sweep(drifting)
    analysis = analyze(sweep, 5, fit)
    np.testing.assert_array_equal(analysis.fit.lr, sweep["lr"][list(fitted)])
    assert analysis.range_of_fit == origin
    drifts = np.flatnonzero(analysis.stationary["regime"] == "drift")
    assert drifts.tolist() == list(drifting)
    assert np.flatnonzero(~analysis.stationarity["stationary"]).tolist() == list(drifting)


def test_where_stationarity_cannot_be_told_nothing_is_called_a_drift():
    analysis = analyze(made_sweep(), 3)
    assert "measurement.late = 50" in analysis.stationarity
    assert "drift" not in analysis.stationary["regime"]
