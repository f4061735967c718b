import numpy as np
import pytest
import xarray as xr

import pythermo as pt

END = 8000
RATES = np.geomspace(1e-3, 1e-1, 6)
STEP = 0.1


def sweep_of(random, seeds=8, drift=0.0, noise=0.01, of="loss"):
    """Runs whose U and S rise by STEP with each learning rate, and one of them by a drift in a quarter."""
    iteration = np.unique(np.concatenate([np.arange(10), np.linspace(0, END, 101).astype(int)]))
    shape = (len(RATES), seeds, len(iteration))
    level = STEP * np.arange(len(RATES))[:, None, None] + 1.0
    # Linear in the second half: the means of its quarters are one drift apart.
    path = drift * np.maximum(iteration / END - 0.5, 0.0) / 0.25
    variables = {
        name: (("lr", "seed", "iteration"), level + path * (name == of) + noise * random.normal(size=shape))
        for name in ("loss", "entropy", "squared_full_grad_norm", "rms_noise_norm")
    }
    made = xr.Dataset(variables, coords={"lr": RATES, "seed": np.arange(seeds), "iteration": iteration})
    made["entropy"] = made["entropy"].expand_dims(k=[50])
    return made


@pytest.mark.parametrize("of", ["loss", "entropy"])
@pytest.mark.parametrize("seeds", [1, 8])
def test_a_drift_is_found_with_its_sign_and_judged_by_its_size(of, seeds):
    name = {"loss": "energy", "entropy": "entropy"}[of]
    for drift, stationary in ((0.0, True), (-0.3 * STEP, False), (0.3 * STEP, False)):
        found = pt.stationarity(sweep_of(np.random.default_rng(0), seeds, drift, of=of))
        # 0.01 noise, 25 measurements a quarter, one seed at least: six standard errors of a mean.
        np.testing.assert_allclose(found[f"{name}_drift"], drift, atol=6 * 0.01 * np.sqrt(2 / 25 / seeds))
        np.testing.assert_allclose(found[f"{name}_tolerance"], STEP / 10, rtol=0.2)
        if seeds > 1:
            assert (found["stationary"] == stationary).all()
        assert (found["iterations_lacking"] > 0).values.tolist() == (~found["stationary"]).values.tolist()
    assert found.attrs["errors"] == ("seeds" if seeds > 1 else "batch means")


def test_a_drift_that_is_seen_and_does_not_matter_is_stationary():
    found = pt.stationarity(sweep_of(np.random.default_rng(1), seeds=16, drift=0.04 * STEP, noise=1e-4))
    assert (found["energy_p_value"] < 1e-6).all()
    assert found["stationary"].all()


def test_a_drift_that_is_not_seen_and_might_matter_is_not():
    found = pt.stationarity(sweep_of(np.random.default_rng(1), seeds=4, noise=0.1))
    assert (found["energy_p_value"] > 0.01).any()
    assert not found["stationary"].any()


@pytest.mark.parametrize("seeds", [2, 4, 16])
def test_intervals_cover_the_drift(seeds):
    """90 % of 6 learning rates in 200 repetitions: 3 binomial deviations are 2.6 %."""
    drift, covered = 0.2 * STEP, 0
    for repetition in range(200):
        found = pt.stationarity(sweep_of(np.random.default_rng([seeds, repetition]), seeds, drift))
        low, high = found["energy_interval"].transpose("bound", "lr").values
        covered += ((low <= drift) & (drift <= high)).sum()
    assert covered / 1200 == pytest.approx(0.9, abs=0.026)


@pytest.mark.parametrize("amount", [200.0, 1000.0])
def test_runs_that_are_as_much_longer_as_is_said_drift_by_what_does_not_matter(amount):
    """U = level + amount / t, without noise: the same runs, ended later."""
    made = sweep_of(np.random.default_rng(2), seeds=3, noise=0.0)

    def ended_at(end):
        iteration = made["iteration"] * (end / END)
        loss = made["loss"] + amount / iteration.where(iteration > 0.0, 1.0)
        return pt.stationarity(made.assign(loss=loss).assign_coords(iteration=iteration))

    lacking = float(ended_at(END)["iterations_lacking"][0])
    assert lacking > 0.1 * END
    # Up to the one iteration that it is rounded up to.
    longer = ended_at(END + lacking)
    np.testing.assert_allclose(-longer["energy_drift"], longer["energy_tolerance"], rtol=1e-3)


def test_learning_rates_whose_members_diverged_are_not_stationary_and_do_not_touch_others():
    made = sweep_of(np.random.default_rng(3))
    made["loss"][{"lr": -1, "seed": 2}] = np.nan
    found = pt.stationarity(made.isel(lr=[5, 0, 3, 1, 2, 4]))
    np.testing.assert_array_equal(found["lr"], RATES)
    assert found["stationary"].values.tolist() == [True] * 5 + [False]
    assert np.isnan(found["iterations_lacking"][-1])
    assert np.isnan(found["rhat"][-1])


def test_rhat_and_effective_samples_are_those_of_series_known():
    random = np.random.default_rng(4)
    found = pt.stationarity(sweep_of(random))
    assert (found["rhat"] < 1.05).all()
    # 8 series of 50 independent values, by an estimate from so few.
    np.testing.assert_allclose(found["effective_samples"], 400, rtol=0.35)
    apart = sweep_of(random)
    apart["loss"] = apart["loss"] + xr.DataArray(np.arange(8.0), dims="seed")
    assert (pt.stationarity(apart)["rhat"] > 1.5).all()


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        (lambda made: made, {"k": 7}, "k: the sweep has no entropies for 7 neighbors"),
        (lambda made: made, {"confidence": 1.5}, "confidence: must be"),
        (lambda made: made.isel(lr=[0]), {}, "sweep: must have 2 learning rates at least"),
        (lambda made: made.drop_vars("loss"), {}, "sweep: lacks loss"),
        (
            lambda made: made.isel(iteration=[0, 3, -2, -1]),
            {},
            r"sweep: has 0 measurements in the quarter before the last .*measurement\.late = 50",
        ),
        (
            lambda made: made.isel(seed=[0], iteration=slice(None, None, 4)),
            {},
            "and 10 at least are needed",
        ),
    ],
)
def test_what_cannot_be_judged_is_named(change, options, problem):
    with pytest.raises(ValueError, match=problem):
        pt.stationarity(change(sweep_of(np.random.default_rng(0))), **options)


def test_all_learning_rates_alike_have_no_step_that_a_drift_could_be_small_against():
    made = sweep_of(np.random.default_rng(0), noise=0.0)
    made["loss"] = xr.full_like(made["loss"], 1.0)
    found = pt.stationarity(made)
    assert (found["energy_tolerance"] == 0.0).all()
    assert found["stationary"].all()  # nothing drifts at all


def test_windows_that_are_longer_than_a_quarter_are_refused():
    made, run = sweep_of(np.random.default_rng(0)), pt.Preset.load("digits-quick").run
    for stride, allowed in ((8, True), (9, False)):
        config = run.changed(**{"measurement.window": 250, "measurement.stride": stride})
        sweep = made.assign_attrs(config=config.to_toml(["lr", "training.seed"]))
        if allowed:
            pt.stationarity(sweep)
        else:
            with pytest.raises(
                ValueError, match=r"sweep: its windows span 2250 iterations and a quarter .* has 2000"
            ):
                pt.stationarity(sweep)
