import sys

import numpy as np
import pytest
import torch
from tiny import TINY

import pythermo as pt
from pythermo.bench.gpu_hours import PAPER
from pythermo.config.preset import Preset
from pythermo.config.schedule import kept_iterations
from pythermo.sweeps.run import CHECKPOINT
from pythermo.sweeps.snapshots import snapshots
from pythermo.training.trainer import Trainer


def keeping(count, **training):
    keys = {f"training.{key}": value for key, value in training.items()}
    return TINY.changed(**{"measurement.snapshots": count}, **keys)


def quiet(*_):
    pass


def flat(model):
    return torch.cat([param.detach().flatten() for param in pt.models.trained_parameters(model)])


def test_the_paper_keeps_the_start_and_nine_from_10_000_on():
    for name in PAPER:
        run = Preset.load(name).run
        kept = kept_iterations(run.training.iterations, run.measurement.snapshots)
        assert len(kept) == 10
        assert (kept[0], kept[1], kept[-1]) == (0, 10_000, run.training.iterations)
        np.testing.assert_allclose(
            np.diff(np.log(kept[1:])), np.log(kept[-1] / 1e4) / 8, atol=1e-4
        )  # rounded


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [15]), (2, [0, 15]), (3, [0, 1, 15]), (4, [0, 1, 4, 15])]
)
def test_short_runs(count, expected):
    assert kept_iterations(15, count).tolist() == expected


def test_the_network_of_a_run_is_the_one_that_was_measured(tmp_path):
    config = keeping(4)
    measured = pt.run(config, tmp_path, report=quiet)
    assert list(snapshots(tmp_path)) == [0, 1, 4, 15]
    trainer = Trainer(config)
    torch.testing.assert_close(flat(pt.load_network(tmp_path, 0)), trainer.weights(), rtol=0, atol=0)
    while trainer.iteration < 4:
        trainer.step()
    assert torch.equal(flat(pt.load_network(tmp_path, 4)), trainer.weights())
    network = pt.load_network(tmp_path)
    assert network.training
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(
            network(trainer.data.train_images), trainer.data.train_labels
        )
    # One evaluation batch holds all 100 images.
    assert float(loss) == pytest.approx(float(measured["loss"][-1]), rel=1e-6)


def test_any_torch_code_reads_the_files(tmp_path):
    pt.run(keeping(1), tmp_path, report=quiet)
    state = torch.load(tmp_path / "weights-15.pt", weights_only=True)
    assert set(state) == set(Trainer(TINY).model.state_dict())
    assert sum(value.untyped_storage().nbytes() for value in state.values()) == 4 * sum(
        value.numel() for value in state.values()
    )  # and no buffer behind it


class Counting(torch.nn.Module):
    """Scale-invariant, with a state that is no tensor."""

    def __init__(self, in_channels: int, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.network = pt.models.ConvNet(width, in_channels, num_classes)
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        return self.network(x)

    def get_extra_state(self):
        return {"forwards": self.forwards}

    def set_extra_state(self, state):
        self.forwards = state["forwards"]


def test_networks_of_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_snapshots", sys.modules[__name__])
    mine = {"name": "own", "path": "test_snapshots:Counting", "arguments": {"width": 2}}
    pt.run(TINY.changed(**{f"model.{key}": value for key, value in mine.items()}), tmp_path, report=quiet)
    assert len(flat(pt.load_network(tmp_path))) == len(Trainer(TINY).weights())
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("width = 2", "width = 3"))
    changed = r"Counting\(3\) is not the network whose weights .*weights-15.pt"
    with pytest.raises(ValueError, match=changed):
        pt.load_network(tmp_path)


def test_a_run_taken_up_again_keeps_the_same(tmp_path, monkeypatch):
    pt.run(keeping(4), tmp_path / "whole", report=quiet)
    step = Trainer.step

    def stopping(self):
        if self.iteration == 7:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        pt.run(keeping(4), tmp_path / "stopped", report=quiet, checkpoint_seconds=0.0)
    assert (tmp_path / "stopped" / CHECKPOINT).exists()
    assert list(snapshots(tmp_path / "stopped")) == [0, 1, 4]
    monkeypatch.setattr(Trainer, "step", step)
    pt.run(keeping(4), tmp_path / "stopped", report=quiet)
    for iteration in (0, 1, 4, 15):
        whole, again = (flat(pt.load_network(tmp_path / name, iteration)) for name in ("whole", "stopped"))
        assert torch.equal(whole, again)


def test_what_is_not_there_is_named(tmp_path):
    pt.run(keeping(0), tmp_path / "none", report=quiet)
    with pytest.raises(FileNotFoundError, match=r"none holds no weights; .* measurement.snapshots above 0"):
        pt.load_network(tmp_path / "none")
    pt.run(keeping(2), tmp_path / "two", report=quiet)
    (tmp_path / "two" / "weights-best.pt").touch()  # somebody else's
    with pytest.raises(ValueError, match=r"weights of 7 were not kept, only those of \[0, 15\]"):
        pt.load_network(tmp_path / "two", 7)
