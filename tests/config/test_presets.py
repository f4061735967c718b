"""Every preset and experiment of the package, on generated images of the right shape."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pythermo as pt
from pythermo import _core, data
from pythermo.cli import app
from pythermo.config.preset import Preset, preset_names
from pythermo.data import Images
from pythermo.studies.experiments import EXPERIMENTS
from pythermo.sweeps.plan import plan

SHAPES = {
    "digits": (1, 8, 8, 10),
    "fashion-mnist": (1, 28, 28, 10),
    "cifar10": (3, 32, 32, 10),
    "cifar100": (3, 32, 32, 100),
}
# arXiv 2505.23489, and ours for one channel.
WEIGHTS = {
    ("ConvNet", 8, 3): 24_408,
    ("ConvNet", 16, 3): 97_200,
    ("ConvNet", 64, 3): 1_550_016,
    ("ConvNet", 96, 3): 3_486_240,
    ("ResNet18", 4, 3): 43_692,
    ("ResNet18", 32, 3): 2_790_240,
    ("ResNet18", 48, 3): 6_277_392,
    ("ConvNet", 2, 1): 1_530,
    ("ConvNet", 4, 1): 6_084,
    ("ConvNet", 8, 1): 24_264,
}


@pytest.fixture
def generated(monkeypatch):
    """Let data sets be random images of their shapes."""

    def load(name, **_):
        channels, height, width, classes = SHAPES[name]
        random = torch.Generator().manual_seed(0)
        images = torch.randn(12, channels, height, width, generator=random)
        labels = torch.randint(classes, (12,), generator=random)
        return Images(images[:8], labels[:8], images[8:], labels[8:], classes)

    monkeypatch.setattr(data, "load", load)


def seldom(name):
    """Return whether a preset takes long, or has the network and the images of another one."""
    of_another = name.startswith("gas-") and not name.startswith("gas-digits")
    return of_another or (Preset.load(name).run.model.width or 0) > 8


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if seldom(name) else name for name in preset_names()]
)
@pytest.mark.usefixtures("generated")
def test_runs_for_twenty_iterations(name):
    preset = Preset.load(name)
    sizes = {
        "count": 1, "late": 0, "stationary": 1, "window": 4, "stride": 1, "gradients": 2, "evaluation_batch": 8
    }  # fmt: skip
    in_full_space = preset.run.training.protocol != "sphere"  # where batches of 4 lose the norm
    few = preset.run.changed(
        lr=1e-3 * min(preset.learning_rates) if in_full_space else max(preset.learning_rates),
        **{"training.iterations": 20, "training.batch_size": 4},
        **{f"measurement.{key}": value for key, value in sizes.items()},
    )
    found = pt.run(few, report=lambda *_: None)
    assert found["iteration"].values.tolist() == [*range(10), 20]
    assert np.isfinite(found["loss"]).all()
    model = preset.run.model
    assert found.attrs["weights"] == WEIGHTS[model.name, model.width, SHAPES[preset.run.data.name][0]]
    assert np.isfinite(found["entropy"].sel(k=1)[-1])


IN_FULL_SPACE = {
    "gas-convnet-cifar10": ((-4, -2, 13), (-3, -1, 9), (-3, -1, 13), (-3, -1, 9), 8),
    "gas-convnet-cifar100": ((-4, -2, 13), (-3, -1, 9), (-3, -1, 13), (-2, 0, 9), 16),
    "gas-resnet18-cifar10": ((-4, -2, 13), (-3, -1, 5), (-3, 0, 19), (-3, -1, 5), 4),
    "gas-resnet18-cifar100": ((-4, -2, 13), (-3, -1, 5), (-3, 0, 19), (-3, -1, 5), 4),
}


@pytest.mark.parametrize("name", IN_FULL_SPACE)
def test_the_grids_and_the_schedule_of_the_gas_paper(name):
    """arXiv 2511.07308: both grids of both protocols, five radii, a million iterations, one seed."""
    elr, elr_decay, lr, lr_decay, width = IN_FULL_SPACE[name]
    for ending, protocol, rates, decays in (
        ("elr", "fixed-elr", elr, elr_decay),
        ("lr", "fixed-lr", lr, lr_decay),
    ):
        preset = Preset.load(f"{name}-{ending}")
        np.testing.assert_allclose(preset.axes["lr"], np.logspace(*rates))
        np.testing.assert_allclose(preset.axes["weight_decay"], np.logspace(*decays))
        run = preset.run
        assert (run.training.protocol, run.training.start, run.training.radius) == (protocol, "radius", 1.0)
        assert (run.model.width, run.training.iterations, preset.seeds) == (width, 10**6, 1)
        assert (run.measurement.window, run.measurement.stride, run.measurement.gradients) == (4000, 25, 4000)
        assert (run.measurement.stationary, run.measurement.full_gradient) == (30, "evaluation")
    sphere = Preset.load(f"{name}-sphere")
    assert sphere.axes["radius"] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert "weight_decay" not in sphere.axes
    assert (sphere.run.training.protocol, sphere.run.training.retraction) == ("sphere", "projection")


@pytest.mark.parametrize(
    "name", [name for name in preset_names() if "cifar" in name and not name.startswith("gas-")]
)
def test_the_paper_s_schedule(name):
    run = Preset.load(name).run
    assert run.training.iterations == (1_600_000 if run.model.name == "ConvNet" else 1_000_000)
    assert (run.measurement.count, run.measurement.stationary) == (193, 50)
    assert (run.measurement.window, run.measurement.gradients) == (1000, 1000)
    assert run.training.batch_size == 128
    assert run.training.loss == ("mse" if name.endswith("mse") else "cross-entropy")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_have_presets(name):
    experiment = EXPERIMENTS[name]
    assert set(experiment.presets.values()) <= set(preset_names())
    assert len(experiment.presets) >= (1 if name == "gas-jump" else 2)


def test_all_eight_sweeps_of_the_paper_have_their_laws():
    laws = [Preset.load(name).published for name in preset_names()]
    assert sum(law is not None for law in laws) == 8


@pytest.mark.usefixtures("generated")
def test_a_plan():
    settings = ["run.training.iterations=2000", "run.training.engine=torch", "seeds=1"]
    preset = Preset.load(
        "digits-quick", [*settings, "run.measurement.window=1000", "run.measurement.stride=1"]
    )
    found = plan(preset)
    assert (found.engine, found.side_by_side, found.runs) == ("torch", 1, 8)
    assert found.axes["lr"] == sorted(preset.learning_rates)
    assert found.weights == 1530
    assert found.window_bytes == 1000 * 1530 * 4
    assert found.data_bytes == 12 * 64 * 4
    assert 0.0 < found.step_seconds < found.measurement_seconds
    assert found.sweep_seconds(3) == pytest.approx(3 * found.run_seconds)  # 8 runs, three at a time
    assert found.run_seconds == pytest.approx(
        2000 * found.step_seconds + found.measurements * found.measurement_seconds
    )


@pytest.mark.usefixtures("generated")
def test_a_plan_in_lanes():
    found = plan(Preset.load("digits-quick", ["seeds=5"]))
    assert (found.engine, found.side_by_side, found.runs) == ("lanes", _core.lanes_of_members(), 40)
    groups = -(-40 // found.side_by_side)
    assert found.sweep_seconds(groups) == pytest.approx(found.run_seconds)
    assert found.sweep_seconds(1) == pytest.approx(groups * found.run_seconds)


@pytest.mark.usefixtures("generated")
def test_a_dry_run_computes_nothing(tmp_path):
    out = tmp_path / "out"
    for command in (["reproduce", "digits", "--quick"], ["sweep", "digits-up"]):
        told = CliRunner().invoke(app, [*command, "--dry-run", "--jobs", "2", "--out", str(out)])
        assert told.exit_code == 0, told.output
        assert "runs of" in told.output
        assert "runs side by side in each of 2 processes, by the engine lanes" in told.output
        assert not out.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("generated")
@pytest.mark.parametrize("name", IN_FULL_SPACE)
def test_a_dry_run_of_the_gas_paper(name, tmp_path):
    told = CliRunner().invoke(app, ["reproduce", name, "--dry-run", "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    for folder, runs in (("fixed-elr", 13), ("fixed-lr", 13 if "convnet" in name else 19), ("sphere", 3)):
        decays = 5 if folder == "sphere" or "resnet" in name else 9
        assert f"{folder}: Ideal gas" in told.output
        assert f"{runs * decays} runs of 1000000 iterations" in told.output
    assert "weight decay 0.001" in told.output
    assert "radius 0.25, 0.5, 1, 2, 4" in told.output


def test_an_experiment_without_a_quick_version():
    told = CliRunner().invoke(app, ["reproduce", "digits-mse", "--quick"])
    assert told.exit_code == 1
    assert "--quick: digits-mse has no quick version" in told.output
