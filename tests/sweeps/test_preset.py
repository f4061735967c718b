import numpy as np
import pytest

import pythermo as pt
from pythermo import data
from pythermo.config import preset as preset_module
from pythermo.config.preset import Preset
from pythermo.sweeps import engine
from pythermo.sweeps import preset as preset_runs
from pythermo.sweeps.preset import PRESET, run_preset
from pythermo.sweeps.setups import read_setups
from pythermo.training import lane_trainer, trainer

TEXT = """
description = "two learning rates and two seeds"
grid = [{ start = -2.0, stop = -1.0, count = 2 }]
seeds = 2
[run]
model = { name = "ConvNet", width = 2 }
data = { name = "digits", samples_per_class = 10 }
training = { iterations = 90, batch_size = 16 }
measurement = { count = 6, stationary = 2, window = 52, gradients = 2 }
"""


@pytest.fixture
def preset(tmp_path):
    (tmp_path / "mine.toml").write_text(TEXT)
    return Preset.load(tmp_path / "mine.toml")


def round_differently(monkeypatch):
    """Let powers of ten be the neighbors of what they are here."""

    def logspace(start, stop, count):
        return np.nextafter(10.0 ** np.linspace(start, stop, count), 1)

    monkeypatch.setattr(preset_module.np, "logspace", logspace)


def counted(monkeypatch, module, name):
    """Let a function of a module be counted."""
    calls, original = [], getattr(module, name)

    def count(*arguments, **keywords):
        calls.append(arguments)
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, count)
    return calls


@pytest.mark.parametrize(("by", "module", "groups"), [("torch", trainer, 4), ("lanes", lane_trainer, 1)])
def test_images_and_network_are_made_once_for_the_sweep_and_once_for_each_process_s_runs(
    preset, tmp_path, one_worker, monkeypatch, by, module, groups
):
    loaded = counted(monkeypatch, data, "load")
    for_the_sweep = counted(monkeypatch, engine, "build_network")
    for_runs = counted(monkeypatch, module, "build_network")
    preset = Preset.load(tmp_path / "mine.toml", [f"run.training.engine={by}"])
    run_preset(preset, tmp_path / "out", one_worker)
    assert len(for_the_sweep) == 1
    assert len(for_runs) == groups
    assert len(loaded) == 1 + groups


def test_a_finished_sweep_is_whole_where_powers_of_ten_are_rounded_differently(
    preset, tmp_path, one_worker, monkeypatch
):
    """As under another version of numpy: its grid is read, and not computed again."""
    first = run_preset(preset, tmp_path / "out", one_worker)
    (written,) = read_setups(tmp_path / "out")
    here = preset.learning_rates
    round_differently(monkeypatch)
    elsewhere = Preset.load(tmp_path / "mine.toml")
    assert set(elsewhere.learning_rates).isdisjoint(here)
    (read,) = read_setups(tmp_path / "out")
    assert read.dataset.identical(written.dataset)
    monkeypatch.setattr(trainer.Trainer, "step", lambda self: pytest.fail("computed again"))
    assert run_preset(elsewhere, tmp_path / "out", one_worker).identical(first)
    assert len(list((tmp_path / "out").glob("lr_*"))) == 4


def test_runs_that_another_grid_or_a_sweep_made_are_those_of_the_preset_too(
    preset, tmp_path, one_worker, monkeypatch
):
    out, narrow = tmp_path / "out", ["grid=[{start=-2.0, stop=-2.0, count=1}]"]
    run_preset(preset, out, one_worker)
    run_preset(Preset.load(tmp_path / "mine.toml", narrow), out, one_worker)  # whose preset.toml lacks 0.1
    pt.sweep(preset.run, preset.learning_rates, tmp_path / "swept", seeds=2, executor=one_worker)
    round_differently(monkeypatch)
    monkeypatch.setattr(trainer.Trainer, "step", lambda self: pytest.fail("computed again"))
    for folder in (out, tmp_path / "swept"):
        run_preset(Preset.load(tmp_path / "mine.toml"), folder, one_worker)
        (setup,) = read_setups(folder)
        assert setup.dataset.sizes["lr"] == 2
        assert len(list(folder.glob("lr_*"))) == 4


def test_the_learning_rates_are_stored_before_the_first_run(preset, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(preset_runs, "sweep_members", killed)
    with pytest.raises(KeyboardInterrupt):
        run_preset(preset, tmp_path / "out")
    assert Preset.load(tmp_path / "out" / PRESET).lr == preset.learning_rates
    with pytest.raises(FileNotFoundError, match="out lacks 4 of its 4 runs"):
        read_setups(tmp_path / "out")


def test_seeds_come_through_to_the_analysis(preset, tmp_path, one_worker):
    run_preset(preset, tmp_path / "out", one_worker)
    (setup,) = read_setups(tmp_path / "out")
    assert setup.dataset["seed"].values.tolist() == [0, 1]
    stationary = setup.analysis.stationary
    mean = setup.dataset["loss"][:, :, -2:].mean("iteration")
    np.testing.assert_allclose(stationary["energy"], mean.mean("seed"))
    np.testing.assert_allclose(stationary["energy_error"], np.abs(mean[:, 0] - mean[:, 1]) / 2)


def test_a_folder_of_another_preset_keeps_its_own(preset, tmp_path, one_worker):
    run_preset(preset, tmp_path / "out", one_worker)
    other = Preset.load(tmp_path / "mine.toml", ["run.data.seed=9"])
    before = (tmp_path / "out" / PRESET).read_text()
    with pytest.raises(ValueError, match=r"data.seed: 1 there, 9 here"):
        run_preset(other, tmp_path / "out", one_worker)
    assert (tmp_path / "out" / PRESET).read_text() == before
    assert pt.load_sweep(tmp_path / "out").sizes["seed"] == 2
