import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import xarray as xr
from quick import QUICK

import pythermo as pt
from pythermo.sweeps import files
from pythermo.sweeps import run as run_module
from pythermo.sweeps.files import LOCK
from pythermo.sweeps.run import CHECKPOINT, MEASUREMENTS
from pythermo.training.trainer import Trainer


@pytest.mark.parametrize("seconds", [2.0, 0.1])
def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path, monkeypatch, seconds):
    """However long one takes, as a window of gigabytes does on a shared disk."""
    clock, written = [0.0], []

    def step(self):
        clock[0] += 1.0
        self.iteration += 1

    def write(path, state):
        if path.name == CHECKPOINT:
            clock[0] += seconds
            written.append(state["iteration"])

    monkeypatch.setattr(run_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Trainer, "measurement_due", False)
    monkeypatch.setattr(run_module.files, "write_state", write)
    trainer = Trainer(QUICK)
    trainer.rows.append({"loss": 1.0})
    monkeypatch.setattr(trainer, "to_dataset", dict)
    monkeypatch.setattr(run_module.files, "write_dataset", lambda path, dataset: None)
    task = run_module.Task(trainer.config, tmp_path, lambda *_: None)
    run_module._train(trainer, [task], checkpoint_seconds=10.0)
    assert task.outcome == {}
    assert len(written) >= 3
    steps_between = [after - before for before, after in pairwise(written)]
    # A step of a second more or less at each end.
    assert all(between >= max(10.0, 19 * seconds) - 1 for between in steps_between)
    assert all(between <= max(10.0, 19 * seconds) + 1 for between in steps_between)


def test_a_finished_run_is_read_and_not_computed_again(tmp_path, monkeypatch):
    first = pt.run(QUICK, tmp_path, report=lambda *_: None)
    left = [LOCK, "config.toml", MEASUREMENTS, "weights-120.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("computed again"))
    assert pt.run(QUICK, tmp_path).identical(first)


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    pt.run(QUICK.changed(**{"training.iterations": 2}), tmp_path, report=lambda *_: None)
    with pytest.raises(ValueError, match=r"training.iterations: 2 there, 120 here"):
        pt.run(QUICK, tmp_path)


def test_a_run_goes_on_from_any_iteration(tmp_path):
    whole = pt.run(QUICK, report=lambda *_: None)
    for stop in (0, 7, 55, 119):
        folder = tmp_path / str(stop)
        trainer = Trainer(QUICK)
        while trainer.iteration < stop:
            if trainer.measurement_due:
                trainer.measure()
            else:
                trainer.step()
        files.claim_folder(folder, QUICK)
        files.write_state(folder / CHECKPOINT, trainer.state_dict())
        assert pt.run(QUICK, folder, report=lambda *_: None).identical(whole)


KILLED = """
import sys, torch
import pythermo as pt
torch.set_num_threads(1)
config = pt.RunConfig.from_toml(sys.stdin.read())
pt.run(config, sys.argv[1], report=lambda *_: None, checkpoint_seconds=0.02)
"""


def test_a_killed_run_goes_on_to_equal_bits(tmp_path):
    config = QUICK.changed(**{"training.iterations": 600, "measurement.count": 30})
    whole = pt.run(config, tmp_path / "whole", report=lambda *_: None)
    folder, kills = tmp_path / "killed", 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdin=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(config.to_toml())
        process.stdin.close()
        before = (folder / CHECKPOINT).stat().st_mtime_ns if (folder / CHECKPOINT).exists() else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            # Killed once it has come further than the run before it, at some moment of its work.
            if (folder / CHECKPOINT).exists() and (folder / CHECKPOINT).stat().st_mtime_ns > before:
                time.sleep(0.05 + 0.03 * kills)
                break
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            kills += 1
            assert not (folder / MEASUREMENTS).exists()
    assert kills >= 3
    assert pt.run(config, folder, report=lambda *_: None).identical(whole)
    assert xr.load_dataset(folder / MEASUREMENTS, engine="h5netcdf").identical(whole)
    assert not (folder / CHECKPOINT).exists()


@pytest.mark.parametrize("engine", ["torch", "lanes"])
@pytest.mark.parametrize("iteration", [0, 120])
def test_an_error_of_the_caller_s_report_is_raised_and_nothing_is_lost(
    tmp_path, engine, iteration, monkeypatch
):
    """In the middle, where the run goes on at the next call, and at its end, where it is kept."""
    clock = (
        iter(range(0, 10**9, 2)).__next__ if iteration == 0 else lambda: 0.0
    )  # reports often, or at the end
    monkeypatch.setattr(run_module.time, "monotonic", clock)

    def report(at, loss):
        if at >= iteration:
            raise ZeroDivisionError("mine")

    config = QUICK.changed(**{"training.engine": engine})
    with pytest.raises(ZeroDivisionError, match="mine"):
        pt.run(config, tmp_path, report=report)
    assert (tmp_path / MEASUREMENTS).exists() == (iteration == 120)
    assert pt.run(config, tmp_path, report=lambda *_: None).identical(pt.run(config, report=lambda *_: None))


def test_other_kinds_of_config_are_refused():
    with pytest.raises(TypeError, match=r"config: must be a pythermo.RunConfig, not dict"):
        pt.run({"lr": 0.1})
