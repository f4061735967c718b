import io
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import TINY

import pythermo as pt
from pythermo.sweeps import files
from pythermo.sweeps.files import claim_folder
from pythermo.sweeps.group import ERROR_LOG, Group, run_group
from pythermo.sweeps.run import MEASUREMENTS
from pythermo.sweeps.sweep import SWEEP
from pythermo.training.trainer import Trainer

RATES = [0.05, 0.001, 0.01]


def folder(lr, seed=0):
    return pt.Member(lr, seed).folder


def test_processes_give_what_any_executor_gives(tmp_path, one_worker):
    here = pt.sweep(TINY, RATES, tmp_path / "here", executor=one_worker)
    there = pt.sweep(TINY, RATES, tmp_path / "there", jobs=2)
    assert here.identical(there)
    assert here["lr"].values.tolist() == sorted(RATES)
    assert pt.load_sweep(tmp_path / "here").identical(here)
    assert pt.load_sweep(tmp_path / "here" / SWEEP).identical(here)


def test_each_run_of_a_sweep_is_the_run_alone(tmp_path, one_worker):
    dataset = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    alone = pt.run(TINY.changed(lr=0.01), report=lambda *_: None)
    np.testing.assert_array_equal(dataset["loss"].sel(lr=0.01, seed=0), alone["loss"])
    np.testing.assert_array_equal(dataset["entropy"].sel(lr=0.01, seed=0), alone["entropy"])
    # All learning rates start from the same point with the same batches.
    assert len(set(dataset["loss"].isel(iteration=0).values.ravel().tolist())) == 1


def test_finished_runs_are_skipped_and_rates_can_be_added(tmp_path, one_worker, monkeypatch):
    pt.sweep(TINY, RATES[:2], tmp_path, executor=one_worker)
    written = (tmp_path / folder(0.05) / MEASUREMENTS).stat().st_mtime_ns
    dataset = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    assert dataset.sizes["lr"] == 3
    assert (tmp_path / folder(0.05) / MEASUREMENTS).stat().st_mtime_ns == written
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("computed again"))
    assert pt.sweep(TINY, RATES, tmp_path, executor=one_worker).identical(dataset)


def test_seeds_differ_in_their_draws_alone_and_can_be_added(tmp_path, one_worker, monkeypatch):
    one = pt.sweep(TINY, RATES[:2], tmp_path, executor=one_worker)
    assert dict(one["loss"].sizes) == {"lr": 2, "seed": 1, "iteration": one.sizes["iteration"]}
    computed = []
    step = Trainer.step

    def watched(self):
        computed.append(self.config.member)
        step(self)

    monkeypatch.setattr(Trainer, "step", watched)
    three = pt.sweep(TINY, RATES, tmp_path, seeds=3, executor=one_worker)
    added = {pt.Member(lr, seed) for lr in RATES for seed in range(3)} - {
        pt.Member(lr, 0) for lr in RATES[:2]
    }
    assert set(computed) == added
    of_runs = three.drop_dims("ensemble_k").drop_vars("snapshot")  # what is not of all seeds together
    assert of_runs.sel(lr=one["lr"], seed=[0]).identical(one)
    assert three["seed"].values.tolist() == [0, 1, 2]
    losses = three["loss"].sel(lr=0.05)
    assert len(set(losses.isel(iteration=0).values.tolist())) == 1  # the initial point and the head
    assert len(set(losses.isel(iteration=-1).values.tolist())) == 3
    # Minibatches of measurements are the seed's own: they differ at the common initial point.
    norms = three["mean_grad_norm"].sel(lr=0.05).isel(iteration=0)
    assert len(set(norms.values.tolist())) == 3
    chosen = pt.sweep(TINY, [0.05], tmp_path, seeds=[2, 0], executor=one_worker)
    assert chosen.drop_dims("ensemble_k").drop_vars("snapshot").identical(of_runs.sel(lr=[0.05], seed=[0, 2]))


def test_members_that_are_not_finished_are_nan_where_others_have_their_place(tmp_path, one_worker):
    pt.sweep(TINY, [0.01], tmp_path, seeds=2, executor=one_worker)
    pt.sweep(TINY, [0.05], tmp_path, seeds=[1], executor=one_worker)
    found = pt.load_sweep(tmp_path)
    assert np.isnan(found["loss"].sel(lr=0.05, seed=0)).all()
    assert np.isfinite(found["loss"].sel(lr=[0.01], seed=0)).all()
    assert np.isfinite(found["loss"].sel(seed=1)).all()


def test_learning_rates_that_are_rounded_differently_are_those_of_the_folder(
    tmp_path, one_worker, monkeypatch
):
    """10^x of one processor or version of numpy is the neighbor of another's."""
    first = pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("computed again"))
    again = pt.sweep(TINY, [float(np.nextafter(lr, 1.0)) for lr in RATES], tmp_path, executor=one_worker)
    assert again.identical(first)


def test_folders_that_do_not_hold_the_run_of_their_name_are_named(tmp_path, one_worker):
    pt.sweep(TINY, [0.01], tmp_path, executor=one_worker)
    shutil.copytree(tmp_path / folder(0.01), tmp_path / folder(0.05))
    with pytest.raises(ValueError, match=rf"move them away\n  {folder(0.05)}: lr: 0.01 there, 0.05 here"):
        pt.load_sweep(tmp_path)
    shutil.rmtree(tmp_path / folder(0.05))
    pt.run(
        TINY.changed(lr=0.05, **{"training.batch_size": 8}), tmp_path / folder(0.05), report=lambda *_: None
    )
    with pytest.raises(ValueError, match=r"lr_0.05_seed_0: training.batch_size: 8 there, 16 here"):
        pt.load_sweep(tmp_path)
    shutil.move(tmp_path / folder(0.05), tmp_path / "a copy")
    with pytest.raises(ValueError, match="a copy: not the name of a member's folder"):
        pt.load_sweep(tmp_path)
    with pytest.raises(ValueError, match="a copy: not the name"):  # before anything is computed
        pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    assert not (tmp_path / folder(0.001)).exists()
    shutil.rmtree(tmp_path / "a copy")
    (tmp_path / "notes").mkdir()
    assert pt.load_sweep(tmp_path).sizes["lr"] == 1


def test_given_axes_become_dimensions(tmp_path, one_worker):
    config = TINY.changed(**{"training.iterations": 6, "measurement.window": 3})
    pt.sweep(config, [0.01], tmp_path, radius=[2.0, 1.0], executor=one_worker)
    found = pt.load_sweep(tmp_path)
    assert dict(found["loss"].sizes) == {
        "lr": 1,
        "seed": 1,
        "radius": 2,
        "iteration": found.sizes["iteration"],
    }
    assert found["radius"].values.tolist() == [1.0, 2.0]
    pt.run(config.at(pt.Member(0.01, 0)), tmp_path / folder(0.01), report=lambda *_: None)
    with pytest.raises(
        ValueError, match=r"lr 0.01, seed 0 and lr 0.01, seed 0, radius 1 do not have the same axes"
    ):
        pt.load_sweep(tmp_path)


def test_folders_from_before_a_key_with_a_default_are_valid(tmp_path, one_worker):
    """A configuration may grow: what is compared are validated models."""
    first = pt.sweep(TINY, RATES[:2], tmp_path, executor=one_worker)
    for path in tmp_path.rglob("config.toml"):
        lines = path.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("retraction", "snapshots", "cuda_graph"))]
        assert len(kept) == len(lines) - 3
        path.write_text("\n".join(kept))
    for path in tmp_path.rglob(MEASUREMENTS):
        dataset = files.read_dataset(path)
        text = dataset.attrs["config"]
        files.write_dataset(
            path, dataset.assign_attrs(config=text.replace('retraction = "projection"\n', ""))
        )
    assert pt.load_sweep(tmp_path)["loss"].identical(first["loss"])
    assert pt.sweep(TINY, RATES, tmp_path, executor=one_worker).sizes["lr"] == 3
    with pytest.raises(ValueError, match=r"training.retraction: 'projection' there, 'exponential' here"):
        pt.sweep(TINY.changed(**{"training.retraction": "exponential"}), RATES, tmp_path, executor=one_worker)


def test_a_configuration_that_cannot_be_read_names_its_file(tmp_path, one_worker):
    (tmp_path / "config.toml").write_text("tracks = 3\n")
    with pytest.raises(
        ValueError,
        match=r"out: .*config.toml is not the configuration of a run; put it back(.|\n)*tracks: unknown",
    ):
        pt.sweep(TINY, RATES, tmp_path, executor=one_worker)


def test_a_failing_run_is_reported_and_the_others_finish(tmp_path, one_worker, monkeypatch):
    step = Trainer.step

    def failing_step(self):
        if self.config.lr == 0.01 and self.iteration == 7:
            raise FloatingPointError("the loss is gone")
        step(self)

    monkeypatch.setattr(Trainer, "step", failing_step)
    with pytest.raises(
        pt.SweepError, match=r"lr 0.01, seed 0: FloatingPointError: the loss is gone .*error.log"
    ) as error:
        pt.sweep(TINY, RATES, tmp_path, executor=one_worker)
    assert list(error.value.failures) == [pt.Member(0.01, 0)]
    assert "failing_step" in (tmp_path / folder(0.01) / ERROR_LOG).read_text()
    assert pt.load_sweep(tmp_path)["lr"].values.tolist() == [0.001, 0.05]
    monkeypatch.setattr(Trainer, "step", step)
    assert pt.sweep(TINY, RATES, tmp_path, executor=one_worker).sizes["lr"] == 3
    assert not (tmp_path / folder(0.01) / ERROR_LOG).exists()


# Kills its own process at 0.01, always, as the system does where memory is short.
KILLING = """
import os, signal, sys
import pythermo as pt
from pythermo.training.trainer import Trainer

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
        print(*error.failures)
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
    assert result.stdout.strip() == "lr 0.01, seed 0"
    assert pt.load_sweep(tmp_path / "out")["lr"].values.tolist() == [0.001, 0.05]
    assert "BrokenProcessPool" in (tmp_path / "out" / folder(0.01) / ERROR_LOG).read_text()


def test_a_folder_of_another_sweep_is_refused(tmp_path, one_worker):
    pt.sweep(TINY, [0.01], tmp_path, executor=one_worker)
    other = TINY.changed(**{"data.seed": 9})
    with pytest.raises(ValueError, match=r"data\.seed: 1 there, 9 here"):
        pt.sweep(other, [0.01], tmp_path, executor=one_worker)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="lr: at least one"):
        pt.sweep(TINY, [], tmp_path)
    with pytest.raises(ValueError, match="must not repeat"):
        pt.sweep(TINY, [0.1, 0.1], tmp_path)
    with pytest.raises(ValueError, match=r"lr: must be positive and finite, not -0.1"):
        pt.sweep(TINY, [0.1, -0.1], tmp_path)
    with pytest.raises(ValueError, match=r"lr: .*must not repeat"):
        pt.sweep(TINY, [0.1, 0.1 + 1e-17, 0.10000000000000002], tmp_path)
    for seeds in (0, -1):
        with pytest.raises(ValueError, match="seeds: must be an integer from 1"):
            pt.sweep(TINY, [0.1], tmp_path, seeds=seeds)
    for seeds in ([], [3, 3]):
        with pytest.raises(ValueError, match="seeds: at least one is needed, and none may repeat"):
            pt.sweep(TINY, [0.1], tmp_path, seeds=seeds)
    with pytest.raises(ValueError, match=r"seeds: must be an integer from 0 .* not -1"):
        pt.sweep(TINY, [0.1], tmp_path, seeds=[2, -1])
    with pytest.raises(ValueError, match="jobs: must be an integer from 1"):
        pt.sweep(TINY, [0.1], tmp_path, jobs=0)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="jobs: is for processes"):
        pt.sweep(TINY, [0.1], tmp_path, executor=executor, jobs=2)
    with pytest.raises(FileNotFoundError, match=r"holds no finished run of a sweep$"):
        pt.load_sweep(tmp_path)
    claim_folder(tmp_path / "up", TINY)
    with pytest.raises(FileNotFoundError, match=r"holds no finished run .* folders of sweeps, up: name one"):
        pt.load_sweep(tmp_path)


def test_a_worker_that_does_not_see_the_folder_says_so_and_makes_none(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"out: .*elsewhere is not to be seen from .* all workers share"
    ):
        run_group(Group(TINY, (pt.Member(0.1, 0),)), tmp_path / "elsewhere", 30.0)
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
    files.write_text(path, "old")

    def full_disk(part):
        part.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, full_disk)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["value.txt"]


def test_states_keep_tensors_and_run_no_code(tmp_path):
    state = {"iteration": 3, "weights": torch.arange(4.0), "rows": [{"loss": 0.5, "entropy": [1.0]}]}
    files.write_state(tmp_path / "state.pt", state)
    found = files.read_state(tmp_path / "state.pt")
    assert torch.equal(found.pop("weights"), state.pop("weights"))
    assert found == state
