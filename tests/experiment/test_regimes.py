import numpy as np
import pytest
import xarray as xr

from pythermo.experiment.analysis import analyse, summary
from pythermo.experiment.config import FitConfig, PublishedLaw
from pythermo.experiment.regimes import longest_stretch, regimes


def planted() -> xr.Dataset:
    """Return a sweep of 12 runs: 3 converge, 6 are in equilibrium on a convex U(S) but for one, 3 are chaotic."""
    lr, iteration = np.logspace(-4, -1, 12), np.unique(np.geomspace(100, 10_000, 40).round()).astype(int)
    random = np.random.default_rng(0)
    noise = 1.0 + 0.01 * random.standard_normal((12, len(iteration)))
    energy, entropy = np.empty_like(noise), np.empty_like(noise)
    energy[:3] = 5.0 / iteration
    entropy[:3] = -1000.0 * np.log(iteration)
    entropy[3:] = 500.0 * np.log(lr[3:, None]) + 10.0 * (noise[3:] - 1.0)
    energy[3:] = 30.0 * lr[3:, None]
    energy[6] += 0.3  # off the hull
    energy[9:] = 3.0
    return xr.Dataset(
        {
            "loss": (("lr", "iteration"), energy * noise),
            "entropy": (("lr", "iteration", "k"), entropy[..., None]),
            "squared_full_grad_norm": (("lr", "iteration"), np.ones_like(noise)),
            "rms_noise_norm": (("lr", "iteration"), np.ones_like(noise)),
        },
        coords={"lr": lr, "iteration": iteration, "k": [50]},
        attrs={"constant_loss": np.log(10.0), "full_gradient": "mean", "weights": 501},
    )


def test_planted_regimes_are_found():
    analysis = analyse(planted(), 20, FitConfig())
    expected = ["convergence"] * 3 + ["equilibrium"] * 3 + ["jump"] + ["equilibrium"] * 2 + ["chaos"] * 3
    assert analysis.stationary["regime"].values.tolist() == expected
    np.testing.assert_array_equal(analysis.fit.lr, planted()["lr"][3:9])
    assert analysis.range_of_fit == "those in equilibrium"


def test_a_fit_range_that_is_given_stays():
    analysis = analyse(planted(), 20, FitConfig(first=4, last=8))
    np.testing.assert_array_equal(analysis.fit.lr, planted()["lr"][4:9])
    assert analysis.range_of_fit == "as given"


def test_a_slow_fall_is_no_convergence():
    sweep = planted()
    t = sweep["iteration"].values
    sweep["loss"][0] = t**-0.05
    sweep["loss"][1] = t**-0.5
    sweep["entropy"][1, :, 0] = np.log(t)  # which rises
    assert regimes(sweep, 20, 50)[:3].tolist() == ["equilibrium", "equilibrium", "convergence"]


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
    assert regimes(sweep, 20, 50)[4] == expected


def test_runs_of_an_earlier_version_are_named():
    sweep = planted()
    del sweep.attrs["constant_loss"]
    with pytest.raises(ValueError, match="lack constant_loss, made by an earlier version"):
        analyse(sweep, 20, FitConfig())


def test_without_two_neighbours_in_equilibrium_all_are_fitted():
    sweep = planted().isel(lr=[0, 1, 3, 9])
    analysis = analyse(sweep, 20, FitConfig())
    assert len(analysis.fit.lr) == 4
    assert "no two neighbouring learning rates are in equilibrium" in summary({"x": analysis})


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("", (0, 0)), ("0", (0, 0)), ("1", (0, 1)), ("0110", (1, 3)), ("1101", (0, 2)), ("10011", (3, 5))],
)
def test_the_longest_stretch(chosen, expected):
    found = longest_stretch(np.array([one == "1" for one in chosen], dtype=bool))
    assert (found.start, found.stop) == expected


def test_the_summary_has_regimes_and_the_published_law():
    analysis = analyse(planted(), 20, FitConfig())
    baseline = xr.Dataset({"uniform_loss": 8.9, "uniform_entropy": ("k", [103784.7])}, coords={"k": [50]})
    text = summary(
        {"x": analysis},
        published={"x": PublishedLaw(prefactor=3.9e-3, exponent=0.85)},
        baselines={"x": baseline},
    )
    assert "Published: T = 0.0039 · η^0.85." in text
    assert "Uniform on the sphere: U = 8.9, S = 103785." in text
    assert text.count("| chaos |") == 3
    assert text.count("| jump |") == 1
