"""Sweeps over a second axis: weight decay in full space, or radii of spheres."""

import math

import numpy as np
import pytest
from tiny import TINY

import pythermo as pt
from pythermo.config.preset import Preset
from pythermo.sweeps.group import ERROR_LOG
from pythermo.sweeps.plan import plan
from pythermo.sweeps.preset import BASELINE, PRESET, run_preset
from pythermo.sweeps.run import MEASUREMENTS
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.trainer import Trainer

GAS = TINY.changed(**{"training.protocol": "fixed-lr", "training.weight_decay": 0.1})
RATES, DECAYS = [0.02, 0.05], [0.1, 0.02]


@pytest.mark.parametrize("engine", ["torch", "lanes"])
def test_each_run_is_the_run_alone_and_finished_ones_are_skipped(tmp_path, one_worker, monkeypatch, engine):
    config = GAS.changed(**{"training.engine": engine})
    first = pt.sweep(config, RATES, tmp_path, weight_decay=DECAYS[:1], executor=one_worker)
    assert first["loss"].dims == ("lr", "seed", "weight_decay", "iteration")
    every = pt.sweep(config, RATES, tmp_path, 2, weight_decay=DECAYS, executor=one_worker)
    assert every["loss"].shape[:3] == (2, 2, 2)
    assert every["weight_decay"].values.tolist() == sorted(DECAYS)
    assert pt.load_sweep(tmp_path).identical(every)
    alone = pt.run(config.at(pt.Member(0.05, 1, 0.02)), report=lambda *_: None)
    for name in ("loss", "radius", "mean_r2_g2"):
        one = every[name].sel(lr=0.05, seed=1, weight_decay=0.02)
        np.testing.assert_array_equal(one, alone[name], err_msg=name)
    assert len(set(every["loss"].isel(iteration=0).values.ravel().tolist())) == 1
    for trainer in (Trainer, LaneTrainer):
        monkeypatch.setattr(trainer, "step", lambda self: pytest.fail("computed again"))
    assert pt.sweep(config, RATES, tmp_path, 2, weight_decay=DECAYS, executor=one_worker).identical(every)
    rounded = [math.nextafter(decay, 1.0) for decay in DECAYS]
    assert pt.sweep(config, RATES, tmp_path, 2, weight_decay=rounded, executor=one_worker).identical(every)
    # The configuration's own weight decay does not matter.
    other = config.changed(**{"training.weight_decay": 0.7})
    assert pt.sweep(other, RATES, tmp_path, 2, weight_decay=DECAYS, executor=one_worker).identical(every)
    pt.RunConfig.from_toml(every.attrs["config"])


def test_axes_that_do_not_go_together_are_refused_before_anything_is_written(tmp_path, one_worker):
    out = tmp_path / "gas"
    for config, axes, message in (
        (TINY, {"weight_decay": [0.1]}, "training.weight_decay: has no effect on the sphere"),
        (GAS, {"weight_decay": [0.1, 0.0]}, "weight_decay: must be positive"),
        (GAS, {"weight_decay": [0.1, 0.1]}, "weight_decay: must not repeat"),
        (GAS, {"weight_decay": []}, "weight_decay: at least one is needed"),
        (TINY, {"radius": [0.0]}, "radius: must be positive"),
        (TINY, {"radius": "x"}, "radius: "),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            pt.sweep(config, RATES, out, executor=one_worker, **axes)
    assert not out.exists()
    pt.sweep(GAS, RATES[:1], out, weight_decay=DECAYS[:1], executor=one_worker)
    with pytest.raises(ValueError, match=r"has the run lr_0.02_seed_0_weight_decay_0.1, and this sweep goes"):
        pt.sweep(GAS, RATES, out, executor=one_worker)


@pytest.mark.parametrize("engine", ["torch", "lanes"])
def test_a_norm_that_is_lost_ends_that_run_alone(tmp_path, one_worker, engine):
    config = GAS.changed(**{"training.protocol": "fixed-elr", "training.engine": engine})
    with pytest.raises(
        pt.SweepError, match=r"lr 0.5, seed 0, weight decay 0.5: .*their norm is lost"
    ) as error:
        pt.sweep(config, [0.001, 0.5], tmp_path, weight_decay=[1e-6, 0.5], executor=one_worker)
    lost = pt.Member(0.5, 0, 0.5)
    assert lost in error.value.failures
    assert not (tmp_path / lost.folder / MEASUREMENTS).exists()
    assert "take a smaller lr" in (tmp_path / lost.folder / ERROR_LOG).read_text()
    found = pt.load_sweep(tmp_path)
    assert np.isfinite(found["loss"].sel(lr=0.001)).all()


TEXT = """
description = "two by three"
lr = [0.02, 0.05]
weight_decay = [0.2, { start = -2.0, stop = -1.0, count = 2 }]
seeds = 4
[run]
model = { name = "ConvNet", width = 2 }
data = { name = "digits", samples_per_class = 10 }
training = { iterations = 60, batch_size = 16, protocol = "fixed-lr" }
measurement = { count = 4, stationary = 1, window = 51, gradients = 2 }
"""


def test_a_preset_over_two_axes(tmp_path, one_worker):
    (tmp_path / "mine.toml").write_text(TEXT)
    preset = Preset.load(tmp_path / "mine.toml")
    assert preset.axes == {"lr": [0.02, 0.05], "weight_decay": [0.2, 0.01, 0.1]}
    assert preset.run.training.weight_decay == 0.2
    planned = plan(preset)
    assert (planned.runs, planned.engine) == (24, "lanes")
    assert planned.axes["weight_decay"] == [0.01, 0.1, 0.2]
    few = Preset.load(tmp_path / "mine.toml", ["seeds=1", "run.training.iterations=55"])
    found = run_preset(few, tmp_path / "out", one_worker)
    assert dict(found["loss"].sizes)["weight_decay"] == 3
    assert Preset.load(tmp_path / "out" / PRESET).axes == few.axes
    assert not (tmp_path / "out" / BASELINE).exists()
    assert run_preset(few, tmp_path / "out", one_worker).identical(found)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weight_decay=[-1.0]", r"\nweight_decay.0: Input should be greater than 0"),
        ("weight_decay=[]", r"\nweight_decay: .*at least 1 item"),
        ("weight_decay=[0.1, 0.1]", r"\nweight_decay: a value repeats"),
        ("weight_decay=[{start=-1.0, stop=0.0}]", r"\nweight_decay.0.count: Field required"),
        ("run.training.protocol='sphere'", r"\nrun.training.weight_decay: has no effect on the sphere"),
        ("radius=[0.0]", r"\nradius.0: Input should be greater than 0"),
    ],
)
def test_wrong_axes_of_presets_are_named(tmp_path, setting, message):
    (tmp_path / "mine.toml").write_text(TEXT)
    with pytest.raises(ValueError, match=message):
        Preset.load(tmp_path / "mine.toml", [setting])
