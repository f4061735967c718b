import numpy as np

from pythermo import data
from pythermo.config.preset import Preset
from pythermo.sweeps.baseline import uniform_baseline
from pythermo.training.network import build_network


def baseline_of(run):
    images = data.load(**run.data.model_dump())
    return uniform_baseline(run, build_network(run, images), images)


def test_uniform_baseline():
    run = Preset.load("digits-quick", ["run.measurement.window=60", "run.data.samples_per_class=10"]).run
    baseline = baseline_of(run)
    # log C = ln 10 is what a head without an opinion has; a random one is worse.
    assert 2.3 < float(baseline["uniform_loss"]) < 10.0
    twice = baseline_of(run.changed(**{"training.radius": 2.0}))
    np.testing.assert_allclose(
        twice["uniform_entropy"] - baseline["uniform_entropy"], 1529 * np.log(2.0), rtol=1e-12
    )
