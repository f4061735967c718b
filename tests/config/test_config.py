import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import pythermo as pt
from pythermo.config.preset import Preset, preset_names
from pythermo.config.schedule import measured_iterations, recorded_iterates, window_is_full
from pythermo.config.schema import OwnNetwork, differing_keys


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name):
    preset = Preset.load(name)
    assert math.prod(map(len, preset.axes.values())) >= 8
    assert pt.RunConfig.from_toml(preset.run.to_toml()) == preset.run


def test_settings_override_keys():
    preset = Preset.load(
        "digits-up",
        [
            "run.training.iterations=70",
            "run.measurement.window=60",
            "run.measurement.stride=1",
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
        (
            "run.training.iterations=900",
            "begin at iteration .* the window of 250 iterates, 72 apart, is not full",
        ),
        ("run.training.iterations=0", "run.training.iterations: .*greater than 0"),
        ("run.lr=-1.0", "run.lr: .*greater than 0"),
        (
            "run.model.name=VGG",
            "run.model: .*VGG.* does not match any of the expected tags: 'ConvNet', 'ResNet18', 'own'",
        ),
        ("left_out=[8]", "left_out: must leave some of the grid's 8 values"),
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
    np.testing.assert_allclose(Preset.load("convnet-cifar10-up").learning_rates, expected)
    low, high = np.logspace(-5, -4, 4)[:-1], [*np.logspace(-2, -1, 4)[:-1], *np.logspace(-1, 0, 4)]
    np.testing.assert_allclose(Preset.load("convnet-cifar100-op").learning_rates, [*low, *middle, *high])
    np.testing.assert_allclose(Preset.load("resnet18-cifar10-op").learning_rates, [*low[1:], *middle, *high])
    np.testing.assert_allclose(
        Preset.load("resnet18-cifar100-up").learning_rates, [*low, middle[0], *middle[2:], *high]
    )


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
    count = len(preset.learning_rates)
    chosen = range(count)[preset.fit.first : range(count)[preset.fit.last] + 1]
    assert chosen == range(first, count - left_out)
    assert preset.fit.tolerance == tolerance
    assert (preset.published.prefactor, preset.published.exponent) == (prefactor, exponent)


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_paper_s_laws_of_gradients(name):
    law = Preset.load(name).published_gradients
    assert (law.prefactor, law.exponent) == GRADIENTS[name]


@pytest.mark.parametrize("fit", ["fit.first=8", "fit.last=-9"])
def test_a_fit_beyond_the_grid_is_refused(fit):
    with pytest.raises(ValueError, match="must be an index of the 8 learning rates"):
        Preset.load("digits-up", [fit])


def test_a_network_by_its_import_path_on_a_preset(tmp_path):
    settings = ["run.model.name=own", "run.model.path=mine:Net", "run.model.arguments={hidden = 3}"]
    expected = OwnNetwork(name="own", path="mine:Net", arguments={"hidden": 3})
    assert Preset.load("digits-up", settings).run.model == expected
    (tmp_path / "mine.toml").write_text(
        'base = "digits-up"\ndescription = "mine"\n'
        '[run.model]\nname = "own"\npath = "mine:Net"\narguments = { hidden = 3 }\n'
    )
    assert Preset.load(tmp_path / "mine.toml").run.model == expected
    other = Preset.load("digits-up", ["run.model.name=ResNet18"]).run.model  # which has a width too
    assert (other.name, other.width) == ("ResNet18", 2)


def test_a_preset_may_start_from_another(tmp_path):
    mse, base = Preset.load("convnet-cifar10-op-mse"), Preset.load("convnet-cifar10-op")
    assert mse.learning_rates == base.learning_rates
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
    run = Preset.load("digits-up").run
    other = run.changed(lr=0.5, **{"data.seed": 9, "measurement.window": 70})
    assert differing_keys(run, other, without=["lr"]) == [
        "data.seed: 1 there, 9 here",
        "measurement.window: 250 there, 70 here",
    ]


def test_changed_validates_and_names():
    run = Preset.load("digits-up").run
    changed = run.changed(lr=0.5, **{"training.radius": 2.0})
    assert (changed.lr, changed.training.radius, changed.data) == (0.5, 2.0, run.data)
    assert run.training.radius == 1.0
    for key, value, message in (
        ("training.radius", -1.0, "training.radius: .*greater than 0"),
        ("training.radios", 1.0, "training.radios: unknown key"),
        ("lr.x", 1.0, "lr.x: 'lr' is a value and has no keys|lr: "),
        ("model.width", "wide", r"model.width: .*integer \(given: 'wide'\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run.changed(**{key: value})
    with pytest.raises(ValueError, match="is not TOML"):
        pt.RunConfig.from_toml("lr = ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "fixed-lr"}, "^training.weight_decay: must be positive at the protocol fixed-lr"),
        ({"protocol": "fixed-elr", "weight_decay": 0.0}, "^training.weight_decay: must be positive"),
        ({"protocol": "fixed-elr", "weight_decay": -1.0}, "^training.weight_decay: .*greater than or equal"),
        ({"weight_decay": 0.1}, "^training.weight_decay: has no effect on the sphere"),
        (
            {"protocol": "fixed-lr", "weight_decay": 0.1, "retraction": "exponential"},
            "^training.retraction: must be left out at the protocol fixed-lr",
        ),
        ({"retraction": None}, "^training.retraction: must be projection or exponential on the sphere"),
        ({"start": "predicted"}, "^training.start: must be radius on the sphere"),
        ({"radius": 0.0}, "^training.radius: .*greater than 0"),
        ({"protocol": "free"}, "^training.protocol: .*'fixed-lr'"),
    ],
)
def test_protocols_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Preset.load("digits-up").run.changed(**{f"training.{key}": value for key, value in changes.items()})


def test_one_wrong_value_is_one_line():
    """Not another for the retraction, whose default depends on the protocol and so on all values before it."""
    with pytest.raises(ValueError, match="iterations") as caught:
        Preset.load("digits-up").run.changed(**{"training.iterations": -3})
    assert str(caught.value).splitlines() == [
        "training.iterations: Input should be greater than 0 (given: -3)"
    ]


def test_a_protocol_in_full_space_is_read_back():
    run = Preset.load("digits-up").run
    gas = run.changed(**{"training.protocol": "fixed-elr", "training.weight_decay": 0.1})
    assert (run.training.retraction, gas.training.retraction) == ("projection", None)
    assert pt.RunConfig.from_toml(gas.to_toml()) == gas


LISTED = """
base = "digits-up"
description = "mine"
lr = [0.1, 0.3]
"""


def test_learning_rates_may_be_listed(tmp_path):
    (tmp_path / "mine.toml").write_text(LISTED)
    assert Preset.load(tmp_path / "mine.toml").learning_rates == [0.1, 0.3]
    for setting, message in (
        ("grid=[{start=-2.0, stop=-1.0, count=2}]", "lr, grid: one of them must say"),
        ("lr=[0.1, 0.1]", "lr: a learning rate repeats"),
        ("lr=[0.1, 0.10000000000000002]", "lr: a learning rate repeats"),
        ("lr=[]", "lr: .*at least 1 item"),
        ("lr=[-1.0]", "lr.0: .*greater than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Preset.load(tmp_path / "mine.toml", [setting])


@pytest.mark.parametrize("name", preset_names())
def test_a_grid_that_is_rounded_differently_is_the_stored_one(name):
    """numpy 1.26 and 2 round 10^x to neighboring numbers."""
    preset = Preset.load(name)
    stored = [float(np.nextafter(lr, 1.0)) for lr in preset.learning_rates]
    again = preset.with_values_of({"lr": stored})
    assert again.learning_rates == stored
    assert Preset.checked(tomllib.loads(again.to_toml())) == again
    assert preset.with_values_of({}).learning_rates == preset.learning_rates
    assert preset.with_values_of({"lr": [0.123]}).learning_rates == preset.learning_rates


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


@pytest.mark.parametrize(("iterations", "late"), [(3, 5), (10, 1), (8000, 50), (8001, 7)])
def test_late_measurements_are_even_and_in_the_second_half(iterations, late):
    log_spaced, both = (set(measured_iterations(iterations, 20, more).tolist()) for more in (0, late))
    assert log_spaced <= both
    assert max(both) == iterations
    if iterations > 1000:
        added = np.array(sorted(both - log_spaced | {iterations}))
        assert len(added) >= late - 2  # some are log-spaced ones too
        assert added[0] > iterations / 2
        assert abs(np.diff(added) - iterations / 2 / late).max() <= iterations / 2 / late + 1


def test_only_needed_iterates_are_recorded():
    recorded = recorded_iterates(20, np.array([0, 2, 3, 10, 20]), window=4)
    assert np.flatnonzero(recorded).tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 17, 18, 19, 20]


@pytest.mark.parametrize("stride", [1, 2, 7])
def test_recorded_iterates_are_the_last_ones_of_the_stride(stride):
    """What a window of the last 4 appended iterates holds at each measurement, against its definition."""
    measured = np.array([0, 3, 5, 20, 21, 34, 60])
    recorded = np.flatnonzero(recorded_iterates(60, measured, window=4, stride=stride))
    for end in measured:
        seen = list(range(0, end + 1, stride))[-4:]
        if window_is_full(end, 4, stride):
            assert recorded[recorded <= end][-4:].tolist() == seen
        else:
            assert len(seen) < 4
    assert (recorded % stride == 0).all()


def test_the_documented_preset_is_valid(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "presets.md").read_text()
    example, own = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    documented = Preset.load(tmp_path / "example.toml")
    assert len(documented.learning_rates) == 10
    # What is called a default there is one: leaving those lines out changes nothing, but for the examples.
    defaults_left_out = "\n".join(line for line in example.split("\n") if "# default" not in line)
    (tmp_path / "short.toml").write_text(defaults_left_out)
    short = Preset.load(tmp_path / "short.toml").run
    examples = {"samples_per_class": None, "test_samples": None, "side": None, "label_noise": 0.0}
    changes = {f"data.{key}": value for key, value in examples.items()} | {"model.head_norm": None}
    assert short == documented.run.changed(**changes)
    assert OwnNetwork.checked(tomllib.loads(own)["run"]["model"])
