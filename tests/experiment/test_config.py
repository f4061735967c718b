import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import pythermo as pt
from pythermo.experiment.config import ModelConfig, Preset, differing_keys, preset_names
from pythermo.experiment.draws import EpochBatches, IidBatches, Stream, generator
from pythermo.experiment.schedule import measured_iterations, recorded_iterates


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name):
    preset = Preset.load(name)
    assert len(preset.lr) >= 8
    assert pt.RunConfig.from_toml(preset.run.to_toml()) == preset.run


def test_settings_override_keys():
    preset = Preset.load(
        "digits-up",
        [
            "run.training.iterations=70",
            "run.measurement.window=60",
            "run.measurement.stationary=1",
            "run.training.sampling=epochs",
            "run.data.samples_per_class=7",
        ],
    )
    assert preset.run.training.iterations == 70
    assert preset.run.training.sampling == "epochs"
    assert preset.run.data.samples_per_class == 7


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("run.training.iteration=50", "run.training.iteration: unknown key"),
        ("run.training.iterations=fast", r"run.training.iterations: .*integer \(given: 'fast'\)"),
        ("run.training.iterations=1.5", "run.training.iterations: .*integer"),
        ("run.training.iterations=900", "begin at iteration .* the window of 1000 iterates is not full"),
        ("run.training.iterations=0", "run.training.iterations: .*greater than 0"),
        ("run.lr=-1.0", "run.lr: .*greater than 0"),
        ("run.model.name=VGG", "run.model.name: .*should match pattern"),
        ("left_out=[11]", "left_out: must leave some of the grid's 11 values"),
        ("run.training", "not of the form key=value"),
        ("run.lr.x=1", "run.lr: "),
        ("description.x=1", "'description' is a value and has no keys"),
        ("grid=[]", "grid: .*at least 1 item"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        Preset.load("digits-up", [setting])


def test_wrong_presets_are_named(tmp_path):
    with pytest.raises(ValueError, match="'cifar' is unknown; there are convnet-cifar10-op"):
        Preset.load("cifar")
    with pytest.raises(ValueError, match="there is no file"):
        Preset.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("grid = [")
    with pytest.raises(ValueError, match="is not TOML"):
        Preset.load(tmp_path / "broken.toml")
    with pytest.raises(ValueError, match="a learning rate repeats"):
        Preset.load("digits-up", ["grid=[{start=-2.0, stop=-1.0, count=2}, {start=-1.0, stop=0.0, count=2}]"])


def test_the_paper_s_grids():
    # arXiv 2505.23489: 22 learning rates for ConvNet on CIFAR-10, a wider grid for the others.
    middle = [*np.logspace(-4, -3, 5)[:-1], *np.logspace(-3, -2, 15)[:-1]]
    expected = [*middle, *np.logspace(-2, -1, 4)]
    assert len(expected) == 22
    np.testing.assert_allclose(Preset.load("convnet-cifar10-up").lr, expected)
    low, high = np.logspace(-5, -4, 4)[:-1], [*np.logspace(-2, -1, 4)[:-1], *np.logspace(-1, 0, 4)]
    np.testing.assert_allclose(Preset.load("convnet-cifar100-op").lr, [*low, *middle, *high])
    np.testing.assert_allclose(Preset.load("resnet18-cifar10-op").lr, [*low[1:], *middle, *high])
    np.testing.assert_allclose(Preset.load("resnet18-cifar100-up").lr, [*low, middle[0], *middle[2:], *high])


# arXiv 2505.23489 and its notebooks: first index, indices left out at the end, tolerance; the law of T.
PAPER = {
    "convnet-cifar10-up": (1, 3, 1e-2, 3.9e-3, 0.85),
    "convnet-cifar10-op": (4, 7, 4e-2, 2.5e-4, 0.86),
    "convnet-cifar100-up": (6, 5, 1e-2, 5.8e-5, 0.29),
    "convnet-cifar100-op": (6, 9, 4e-2, 9.9e-7, 0.07),
    "resnet18-cifar10-up": (3, 6, 1e-2, 3.9e-4, 0.57),
    "resnet18-cifar10-op": (6, 8, 1e-2, 2.4e-6, 0.34),
    "resnet18-cifar100-up": (5, 5, 1e-2, 6.2e-5, 0.32),
    "resnet18-cifar100-op": (6, 9, 3e-2, 1.5e-6, 0.23),
}
# Of mean |g| = a |G|^p; ConvNet(64), then ResNet-18(32), by images per class, 5000 being all.
GRADIENTS = {
    "convnet-cifar10-op-500": (13, 0.93),
    "convnet-cifar10-op-1250": (12, 0.87),
    "convnet-cifar10-op-2500": (11, 0.83),
    "convnet-cifar10-op": (10, 0.78),
    "resnet18-cifar10-op-500": (12, 0.87),
    "resnet18-cifar10-op-1250": (15, 0.81),
    "resnet18-cifar10-op-2500": (17, 0.79),
    "resnet18-cifar10-op": (20, 0.77),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_fits(name):
    preset = Preset.load(name)
    first, left_out, tolerance, prefactor, exponent = PAPER[name]
    count = len(preset.lr)
    chosen = range(count)[preset.fit.first : range(count)[preset.fit.last] + 1]
    assert chosen == range(first, count - left_out)
    assert preset.fit.tolerance == tolerance
    assert (preset.published.prefactor, preset.published.exponent) == (prefactor, exponent)


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_paper_s_laws_of_gradients(name):
    law = Preset.load(name).published_gradients
    assert (law.prefactor, law.exponent) == GRADIENTS[name]


@pytest.mark.parametrize("fit", ["fit.first=11", "fit.last=-12"])
def test_a_fit_beyond_the_grid_is_refused(fit):
    with pytest.raises(ValueError, match="must be an index of the 11 learning rates"):
        Preset.load("digits-up", [fit])


def test_a_network_by_its_import_path_on_a_preset(tmp_path):
    mine = Preset.load("digits-up", ["run.model.name=mine:Net", "run.model.arguments={hidden = 3}"])
    assert (mine.run.model.width, mine.run.model.arguments) == (None, {"hidden": 3})
    (tmp_path / "mine.toml").write_text(
        'base = "digits-up"\ndescription = "mine"\nrun.model.name = "mine:Net"\n'
    )
    assert Preset.load(tmp_path / "mine.toml").run.model.width is None


def test_a_preset_may_start_from_another(tmp_path):
    mse, base = Preset.load("convnet-cifar10-op-mse"), Preset.load("convnet-cifar10-op")
    assert mse.lr == base.lr
    assert mse.run.training.loss == "mse"
    assert mse.fit.tolerance == base.fit.tolerance
    assert mse.run.training.iterations == base.run.training.iterations
    assert mse.published is None
    assert mse.fit.first is None
    (tmp_path / "mine.toml").write_text('base = "digits-up"\ndescription = "mine"\nrun.model.width = 3\n')
    mine = Preset.load(tmp_path / "mine.toml")
    assert mine.run.model.width == 3
    assert mine.run.data == Preset.load("digits-up").run.data
    (tmp_path / "mine.toml").write_text('base = "digit-up"\ndescription = "mine"\n')
    with pytest.raises(ValueError, match="base: 'digit-up' is not a preset of the package"):
        Preset.load(tmp_path / "mine.toml")


def test_differing_keys_are_dotted():
    found = differing_keys({"a": {"b": 1, "c": 2}, "d": 0}, {"a": {"b": 1, "c": 3}})
    assert found == ["a.c: 2 there, 3 here", "d: 0 there, None here"]


@pytest.mark.parametrize(
    ("iterations", "count"), [(0, 5), (3, 5), (9, 1), (10, 4), (1000, 1), (8000, 80), (50, 500)]
)
def test_schedule(iterations, count):
    measured = measured_iterations(iterations, count)
    assert measured[0] == 0
    assert measured[-1] == iterations
    assert (np.diff(measured) > 0).all()
    assert len(measured) <= 10 + count
    assert set(range(min(10, iterations + 1))) <= set(measured.tolist())


def test_the_paper_s_schedule():
    measured = measured_iterations(1_600_000, 193)
    assert len(measured) == 10 + 193 - 2  # 10.6 and 11.3 round to one iteration, 14.5 and 15.5 to another
    ratio = measured[-1] / measured[-2]
    assert ratio == pytest.approx((1_600_000 / 10) ** (1 / 192), rel=1e-5)


def test_only_needed_iterates_are_recorded():
    recorded = recorded_iterates(20, np.array([0, 2, 3, 10, 20]), window=4)
    assert np.flatnonzero(recorded).tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 17, 18, 19, 20]


def test_streams_and_steps_draw_different_numbers():
    draws = [
        generator(seed, stream, step, index).integers(2**62)
        for seed in (0, 1)
        for stream in (Stream.TRAINING, Stream.MEASUREMENT)
        for step in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(draws)) == 16
    assert generator(0, Stream.TRAINING, 5).integers(2**62) == generator(0, Stream.TRAINING, 5).integers(
        2**62
    )


def test_iid_batches_cover_the_population_evenly():
    batches = IidBatches(population=10, size=100, seed=0)
    counts = np.bincount(np.concatenate([batches.at(step) for step in range(200)]), minlength=10)
    # chi-square with 9 degrees of freedom: mean 9, 99.9 % below 27.9
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9


def test_epochs_are_permutations():
    batches = EpochBatches(population=10, size=3, seed=0)
    for epoch in range(3):
        seen = np.concatenate([batches.at(3 * epoch + batch) for batch in range(3)])
        assert len(set(seen.tolist())) == 9
    again = EpochBatches(population=10, size=3, seed=0)
    assert again.at(7).tolist() == batches.at(7).tolist()
    with pytest.raises(ValueError, match="more than the 10 training images"):
        EpochBatches(population=10, size=11, seed=0)


def test_the_documented_preset_is_valid(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "presets.md").read_text()
    example, own = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    documented = Preset.load(tmp_path / "example.toml")
    assert len(documented.lr) == 10
    # What is called a default there is one: leaving those lines out changes nothing, but for the examples.
    defaults_left_out = "\n".join(line for line in example.split("\n") if "# default" not in line)
    (tmp_path / "short.toml").write_text(defaults_left_out)
    short = Preset.load(tmp_path / "short.toml").run
    examples = {"samples_per_class": None, "test_samples": None, "side": None, "label_noise": 0.0}
    expected = documented.run.data.model_copy(update=examples)
    model = documented.run.model.model_copy(update={"head_norm": None})
    assert short == documented.run.model_copy(update={"data": expected, "model": model})
    assert ModelConfig(**tomllib.loads(own)["run"]["model"]).is_own
