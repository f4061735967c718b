"""Sweeps whose runs lie side by side: folders, failures and stops are each run's own, as with torch."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import TINY
from torch import nn

import pythermo as pt
from pythermo import _core
from pythermo.models.layers import FrozenHead
from pythermo.sweeps import engine
from pythermo.sweeps import run as run_module
from pythermo.sweeps.engine import Prepared, settled
from pythermo.sweeps.files import claim_folder, read_config, read_state, write_state
from pythermo.sweeps.group import ERROR_LOG, grouped
from pythermo.sweeps.run import CHECKPOINT
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.program import LayerNotKnownError
from pythermo.training.record import OtherInstructionSetError

LANES = TINY.changed(**{"training.engine": "lanes"})
RATES = [0.01, 0.02, 0.05]


def with_group_norm(in_channels, num_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, bias=False),
        nn.GroupNorm(1, 4, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        FrozenHead(4, num_classes, 10.0, bias=True),
    )


def by_table(config, folder, runs):
    return settled(config, folder, runs, Prepared(config))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    with ThreadPoolExecutor(1) as executor:
        return pt.sweep(LANES, RATES, tmp_path_factory.mktemp("lanes"), seeds=3, executor=executor)


def test_how_runs_are_laid_over_processes_changes_no_bit(tmp_path, expected, monkeypatch):
    assert pt.sweep(LANES, RATES, tmp_path / "two", seeds=3, jobs=2).identical(expected)
    monkeypatch.setattr(engine, "WINDOWS_BYTES", 2 * 4 * 5 * 1530)  # two windows of five iterates
    with ThreadPoolExecutor(1) as executor:
        assert pt.sweep(LANES, RATES, tmp_path / "pairs", seeds=3, executor=executor).identical(expected)


def test_a_run_alone_is_the_run_of_a_sweep(expected):
    alone = pt.run(LANES.at(pt.Member(0.02, 1)), report=lambda *_: None)
    there = expected.sel(lr=0.02, seed=1)
    for name in alone.data_vars:
        np.testing.assert_array_equal(alone[name], there[name])


def test_runs_are_added_to_those_that_are_there(tmp_path, one_worker, expected):
    pt.sweep(LANES, RATES[1:], tmp_path, seeds=2, executor=one_worker)
    assert pt.sweep(LANES, RATES, tmp_path, seeds=3, executor=one_worker).identical(expected)


def test_groups_are_even_and_enough_for_all_processes():
    members = [pt.Member(lr, seed) for lr in np.geomspace(0.01, 0.1, 11) for seed in range(4)]

    def sizes(jobs, most):
        groups = grouped(LANES, members, most, jobs)
        assert [member for one in groups for member in one.members] == members
        return [len(one.members) for one in groups]

    assert sizes(jobs=1, most=16) == [14, 15, 15]
    assert sizes(jobs=2, most=16) == [11] * 4
    assert sizes(jobs=2, most=1) == [1] * 44
    assert sizes(jobs=100, most=16) == [1] * 44


def test_the_engine_is_settled_when_a_folder_is_made(tmp_path, one_worker):
    few, many = tmp_path / "few", tmp_path / "many"
    pt.sweep(TINY, RATES, few, executor=one_worker)
    pt.sweep(TINY, RATES, many, seeds=3, executor=one_worker)
    assert read_config(few).training.engine == "torch"
    assert read_config(many).training.engine == "lanes"
    # Ever after it is the folder's, however many runs there are.
    assert by_table(TINY, few, 100).training.engine == "torch"
    assert by_table(TINY, many, 1).training.engine == "lanes"
    assert pt.sweep(TINY, RATES, few, seeds=4, executor=one_worker).sizes["seed"] == 4
    assert {read_config(path).training.engine for path in few.glob("lr_*")} == {"torch"}
    with pytest.raises(ValueError, match=r"training\.engine: 'torch' there, 'lanes' here"):
        pt.sweep(LANES, RATES, few, executor=one_worker)


def test_a_folder_from_before_there_were_engines_is_torchs(tmp_path, one_worker):
    before = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    for path in [tmp_path / "config.toml", *tmp_path.glob("*/config.toml")]:
        path.write_text(path.read_text().replace('engine = "torch"\n', ""))
    assert pt.load_sweep(tmp_path).identical(before)
    assert pt.sweep(TINY, RATES, tmp_path, seeds=4, executor=one_worker).sizes["seed"] == 4


@pytest.mark.parametrize(
    ("changes", "runs", "expected"),
    [
        ({}, 1, "torch"),
        ({}, 7, "torch"),
        ({}, 8, "lanes"),
        ({"model.width": 8}, 8, "lanes"),
        ({"model.width": 9}, 8, "torch"),
        ({"model.width": 9}, 31, "torch"),
        ({"model.width": 9}, 32, "lanes"),
        ({"model.width": 8, "data.side": 28}, 8, "lanes"),
        ({"model.width": 16, "data.side": 28, "measurement.evaluation_batch": 128}, 32, "lanes"),
        ({"model.width": 17}, 32, "torch"),
        ({"model.name": "ResNet18", "model.width": 4}, 8, "lanes"),
        ({"measurement.full_gradient": "evaluation", "measurement.evaluation_batch": 10**5}, 8, "torch"),
        ({"model.name": "ResNet18", "model.width": 4, "data.side": 32}, 8, "torch"),  # 3 GB to evaluate 1024
        (
            {
                "model.name": "ResNet18",
                "model.width": 4,
                "data.side": 32,
                "measurement.evaluation_batch": 128,
                "training.batch_size": 64,
            },
            8,
            "lanes",
        ),
    ],
)
def test_the_table_of_engines(changes, runs, expected):
    assert by_table(TINY.changed(**changes), None, runs).training.engine == expected


def test_a_layer_that_lanes_do_not_have_is_named_or_trained_by_torch(tmp_path, one_worker, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    own = TINY.changed(**{"model.name": "own", "model.path": "own_networks:with_group_norm"})
    with pytest.raises(LayerNotKnownError, match="GroupNorm"):
        pt.sweep(own.changed(**{"training.engine": "lanes"}), RATES, tmp_path, executor=one_worker)
    assert not list(tmp_path.iterdir())
    assert by_table(own, None, 100).training.engine == "torch"


def test_a_run_that_fails_is_named_and_the_others_are_finished(tmp_path, one_worker, expected, monkeypatch):
    step = LaneTrainer.step

    def step_with_a_fault(self):
        for run in self.runs:
            if run.config.member == pt.Member(0.02, 1) and run.iteration == 7:
                self.set_weights(run.lane, torch.full_like(run.weights(), torch.nan))
        step(self)

    monkeypatch.setattr(LaneTrainer, "step", step_with_a_fault)
    with pytest.raises(pt.SweepError, match="1 of the sweep's runs failed") as raised:
        pt.sweep(LANES, RATES, tmp_path, seeds=3, executor=one_worker)
    assert list(raised.value.failures) == [pt.Member(0.02, 1)]
    assert "finite" in (tmp_path / pt.Member(0.02, 1).folder / ERROR_LOG).read_text()
    monkeypatch.setattr(LaneTrainer, "step", step)
    assert pt.sweep(LANES, RATES, tmp_path, seeds=3, executor=one_worker).identical(expected)


def test_a_folder_of_another_run_is_one_runs_failure(tmp_path, one_worker):
    pt.sweep(LANES, RATES, tmp_path / "other", seeds=3, executor=one_worker)
    pt.sweep(LANES, RATES[:1], tmp_path / "mine", executor=one_worker)
    strange = tmp_path / "mine" / pt.Member(0.05, 0).folder
    strange.mkdir()
    text = LANES.changed(lr=0.05, **{"training.batch_size": 8}).to_toml()
    (strange / "config.toml").write_text(text)
    with pytest.raises(pt.SweepError) as raised:
        pt.sweep(LANES, RATES, tmp_path / "mine", seeds=3, executor=one_worker)
    assert list(raised.value.failures) == [pt.Member(0.05, 0)]
    assert "training.batch_size" in raised.value.failures[pt.Member(0.05, 0)]


def test_a_run_that_cannot_be_kept_is_not_trained_any_further(tmp_path, one_worker, expected, monkeypatch):
    full = pt.Member(0.02, 1)
    stepped, keep, step = [], run_module.keep_snapshot, LaneTrainer.step

    def keep_if_there_is_room(folder, iteration, model):
        if folder.name == full.folder:
            raise OSError(28, "No space left on device")
        keep(folder, iteration, model)

    def watched(self):
        before = {run: run.iteration for run in self.runs}
        step(self)
        stepped.extend(run.config.member for run in self.runs if run.iteration > before[run])

    monkeypatch.setattr(run_module, "keep_snapshot", keep_if_there_is_room)
    monkeypatch.setattr(LaneTrainer, "step", watched)
    snapshots = LANES.changed(**{"measurement.snapshots": 2})  # the first is at the start
    with pytest.raises(pt.SweepError, match="No space left") as raised:
        pt.sweep(snapshots, RATES, tmp_path, seeds=3, executor=one_worker)
    assert list(raised.value.failures) == [full]
    assert full not in stepped
    assert set(stepped) == {pt.Member(lr, seed) for lr in RATES for seed in range(3)} - {full}


LONGER = LANES.changed(**{"training.iterations": 400, "measurement.count": 60, "measurement.snapshots": 4})
KILLED_AT_200 = """
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pythermo as pt
from pythermo.training.lane_trainer import LaneTrainer

step = LaneTrainer.step


def step_until_killed(trainer):
    if trainer.runs[0].iteration == 200:
        os.kill(os.getpid(), signal.SIGKILL)
    step(trainer)


LaneTrainer.step = step_until_killed
config = pt.RunConfig.from_toml(open(sys.argv[1]).read())
with ThreadPoolExecutor(1) as executor:
    pt.sweep(config, [0.01, 0.02, 0.05], sys.argv[2], seeds=3, executor=executor, checkpoint_seconds=0.0)
"""


def test_a_killed_sweep_goes_on_to_equal_bits(tmp_path, one_worker):
    expected = pt.sweep(LONGER, RATES, tmp_path / "whole", seeds=3, executor=one_worker)
    (tmp_path / "script.py").write_text(KILLED_AT_200)
    (tmp_path / "config.toml").write_text(LONGER.to_toml())
    out = tmp_path / "killed"
    command = [sys.executable, *(str(tmp_path / name) for name in ("script.py", "config.toml", "killed"))]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    kept = sorted(out.glob(f"*/{CHECKPOINT}"))
    assert len(kept) > 1  # as many as lie side by side
    kept[1].unlink()  # which starts anew beside those that go on
    assert pt.sweep(LONGER, RATES, out, seeds=3, executor=one_worker).identical(expected)
    for path in (tmp_path / "whole").glob("*/weights-*.pt"):
        here, there = read_state(path), read_state(out / path.relative_to(tmp_path / "whole"))
        assert all(torch.equal(here[name], there[name]) for name in there)


def test_a_checkpoint_of_another_instruction_set_is_refused_by_name(tmp_path):
    trainer = LaneTrainer([LANES])
    claim_folder(tmp_path, LANES)
    write_state(tmp_path / CHECKPOINT, trainer.runs[0].state_dict())
    here = _core.chosen_instruction_set()
    others = [name for name in _core.instruction_sets() if name != here]
    _core.choose_instruction_set(others[0])
    try:
        with pytest.raises(OtherInstructionSetError, match=f"begun with {here} .* not with {others[0]}"):
            pt.run(LANES, tmp_path, report=lambda *_: None)
    finally:
        _core.choose_instruction_set(here)
    assert pt.run(LANES, tmp_path, report=lambda *_: None).identical(pt.run(LANES, report=lambda *_: None))
