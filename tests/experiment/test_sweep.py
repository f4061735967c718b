import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import TINY

import pythermo as pt
from pythermo.experiment import storage
from pythermo.experiment.run import MEASUREMENTS, Trainer
from pythermo.experiment.sweep import ERROR_LOG, SWEEP, _run_one, run_folder

RATES = [0.05, 0.001, 0.01]


@pytest.fixture
def one_worker():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_processes_give_what_any_executor_gives(tmp_path, one_worker):
    here = pt.sweep(TINY, RATES, tmp_path / "here", executor=one_worker)
    there = pt.sweep(TINY, RATES, tmp_path / "there", jobs=2)
    assert here.identical(there)
    assert here["lr"].values.tolist() == sorted(RATES)
    assert pt.load_sweep(tmp_path / "here").identical(here)
    assert pt.load_sweep(tmp_path / "here" / SWEEP).identical(here)


def test_each_run_of_a_sweep_is_the_run_alone(tmp_path, one_worker):
    dataset = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    alone = pt.run(TINY.with_lr(0.01), report=lambda *_: None)
    np.testing.assert_array_equal(dataset["loss"].sel(lr=0.01), alone["loss"])
    np.testing.assert_array_equal(dataset["entropy"].sel(lr=0.01), alone["entropy"])
    # All learning rates start from the same point with the same batches.
    assert len(set(dataset["loss"].isel(iteration=0).values.tolist())) == 1


def test_finished_runs_are_skipped_and_rates_can_be_added(tmp_path, one_worker, monkeypatch):
    pt.sweep(TINY, RATES[:2], tmp_path, executor=one_worker)
    written = (run_folder(tmp_path, 0.05) / MEASUREMENTS).stat().st_mtime_ns
    dataset = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    assert dataset.sizes["lr"] == 3
    assert (run_folder(tmp_path, 0.05) / MEASUREMENTS).stat().st_mtime_ns == written
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("computed again"))
    assert pt.sweep(TINY, RATES, tmp_path, executor=one_worker).identical(dataset)


def test_a_failing_run_is_reported_and_the_others_finish(tmp_path, one_worker, monkeypatch):
    step = Trainer.step

    def failing_step(self):
        if self.config.lr == 0.01 and self.iteration == 7:
            raise FloatingPointError("the loss is gone")
        step(self)

    monkeypatch.setattr(Trainer, "step", failing_step)
    with pytest.raises(
        pt.SweepError, match=r"lr 0.01: FloatingPointError: the loss is gone .*error.log"
    ) as error:
        pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    assert list(error.value.failures) == [0.01]
    assert "failing_step" in (run_folder(tmp_path, 0.01) / ERROR_LOG).read_text()
    assert pt.load_sweep(tmp_path)["lr"].values.tolist() == [0.001, 0.05]
    monkeypatch.setattr(Trainer, "step", step)
    assert pt.sweep(TINY, RATES, tmp_path, executor=one_worker).sizes["lr"] == 3
    assert not (run_folder(tmp_path, 0.01) / ERROR_LOG).exists()


# Kills its own process at 0.01, always, as the system does where memory is short.
KILLING = """
import os, signal, sys
import pythermo as pt
from pythermo.experiment.run import Trainer

step = Trainer.step

def deadly_step(self):
    if self.config.lr == 0.01 and self.iteration == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self)

Trainer.step = deadly_step

if __name__ == "__main__":
    config = pt.RunConfig.from_toml(open(sys.argv[1]).read())
    try:
        pt.sweep(config, [0.001, 0.01, 0.05], sys.argv[2], jobs=1)
    except pt.SweepError as error:
        print(list(error.failures))
"""


def test_a_killed_worker_does_not_stop_the_others(tmp_path):
    (tmp_path / "script.py").write_text(KILLING)
    (tmp_path / "config.toml").write_text(TINY.to_toml())
    arguments = [
        sys.executable,
        str(tmp_path / "script.py"),
        str(tmp_path / "config.toml"),
        str(tmp_path / "out"),
    ]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[0.01]"
    assert pt.load_sweep(tmp_path / "out")["lr"].values.tolist() == [0.001, 0.05]
    assert "BrokenProcessPool" in (run_folder(tmp_path / "out", 0.01) / ERROR_LOG).read_text()


def test_a_folder_of_another_sweep_is_refused(tmp_path, one_worker):
    pt.sweep(TINY, [0.01], tmp_path, executor=one_worker)
    other = TINY.model_copy(update={"data": TINY.data.model_copy(update={"seed": 9})})
    with pytest.raises(ValueError, match=r"data\.seed: 1 there, 9 here"):
        pt.sweep(other, [0.01], tmp_path, executor=one_worker)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="lr: at least one"):
        pt.sweep(TINY, [], tmp_path)
    with pytest.raises(ValueError, match="none may repeat"):
        pt.sweep(TINY, [0.1, 0.1], tmp_path)
    with pytest.raises(ValueError, match="lr: Input should be greater than 0"):
        pt.sweep(TINY, [0.1, -0.1], tmp_path)
    with pytest.raises(ValueError, match="jobs: must be at least 1"):
        pt.sweep(TINY, [0.1], tmp_path, jobs=0)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="jobs: is for processes"):
        pt.sweep(TINY, [0.1], tmp_path, executor, jobs=2)
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        pt.load_sweep(tmp_path)


def test_a_worker_that_does_not_see_the_folder_says_so_and_makes_none(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"out: .*elsewhere is not to be seen from .* all workers share"
    ):
        _run_one(TINY, run_folder(tmp_path / "elsewhere", 0.1), 30.0)
    assert not (tmp_path / "elsewhere").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("terminal", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_shown_on_a_terminal_only(tmp_path, one_worker, monkeypatch, terminal, shown):
    monkeypatch.setattr("sys.stderr", terminal())
    pt.sweep(TINY, RATES, tmp_path / "sweep", executor=one_worker)
    pt.run(TINY)
    written = sys.stderr.getvalue()
    assert ("3/3 runs" in written) == shown
    assert ("lr 0.01" in written) == shown
    assert ("U " in written) == shown


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.txt"
    storage.write_text(path, "old")

    def full_disk(part):
        part.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        storage.write_whole(path, full_disk)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["value.txt"]


def test_states_keep_tensors_and_run_no_code(tmp_path):
    state = {"iteration": 3, "weights": torch.arange(4.0), "rows": [{"loss": 0.5, "entropy": [1.0]}]}
    storage.write_state(tmp_path / "state.pt", state)
    found = storage.read_state(tmp_path / "state.pt")
    assert torch.equal(found.pop("weights"), state.pop("weights"))
    assert found == state
