import pytest

import pythermo as pt
from pythermo.config.schedule import measured_iterations
from pythermo.config.schema import MeasurementConfig, TrainingConfig
from pythermo.sweeps.cost import cost_of_run, multiply_adds
from pythermo.sweeps.run import MEASUREMENTS
from pythermo.training import measure
from pythermo.training.trainer import Trainer


@pytest.mark.parametrize(("width", "classes"), [(2, 10), (8, 100)])
def test_multiply_adds_of_the_convnet_by_its_formula(width, classes):
    # 3x3 convolutions 3 -> c -> 2c at 32x32 pixels, -> 4c at 16x16, -> 8c at 8x8, and the head.
    c = width
    expected = 9 * (1024 * (3 * c + 2 * c * c) + 256 * 8 * c * c + 64 * 32 * c * c) + 8 * c * classes
    model = pt.models.ConvNet(width, num_classes=classes)
    assert multiply_adds(model, (3, 32, 32)) == expected
    assert model.training


def test_multiply_adds_of_the_resnet_are_the_published_ones():
    # He et al. 2016, in its form for 32x32 images: 0.56 G multiply-adds at width 64.
    assert multiply_adds(pt.models.ResNet18(64), (3, 32, 32)) == pytest.approx(0.56e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [("ConvNet", 2, 276_640), ("ConvNet", 8, 3_760_768), ("ResNet18", 4, 2_273_600)],
)
def test_multiply_adds_are_those_of_each_layer_s_shapes(name, width, expected):
    """Numbers that were counted layer by layer: outputs times the weights of one output."""
    assert multiply_adds(getattr(pt.models, name)(width), (3, 32, 32)) == expected


def cost(iterations, **measurement):
    return cost_of_run(
        pt.models.ConvNet(2),
        (3, 32, 32),
        train_images=50_000,
        test_images=10_000,
        training=TrainingConfig(iterations=iterations),
        measurement=MeasurementConfig(**measurement),
    )


def test_a_measurement_of_1000_gradients_costs_as_much_as_1000_steps(monkeypatch):
    one = cost(20_000)
    a_step = one.training / 20_000
    measurements = len(measured_iterations(20_000, 193))
    assert one.gradients == pytest.approx(1000 * measurements * a_step)
    # And one pass over all images, where the full gradient is that of evaluation batches.
    assert cost(20_000, full_gradient="evaluation").gradients == pytest.approx(
        measurements * (1000 + 50_000 / 128) * a_step
    )
    # Gradients that are not kept are computed twice.
    monkeypatch.setattr(measure, "KEPT_BYTES", 1000 * one.weights * 4 - 1)
    assert cost(20_000).gradients == pytest.approx(2000 * measurements * a_step)


def test_costs_of_a_real_run(tmp_path):
    """The numbers of a run's files and its window are those that were counted."""
    config = pt.RunConfig.from_toml("""
    model = { name = "ConvNet", width = 2 }
    data = { name = "digits", samples_per_class = 10 }
    training = { iterations = 12, batch_size = 16 }
    measurement = { count = 2, window = 5, gradients = 2 }
    """)
    trainer = Trainer(config)
    counted = cost_of_run(trainer.model, (1, 8, 8), 100, 300, config.training, config.measurement)
    assert counted.weights == len(trainer.weights())
    assert counted.window_bytes == trainer._window.state_dict()["points"].nbytes * 5
    dataset = pt.run(config, tmp_path, report=lambda *_: None)
    assert (
        counted.measurements_bytes
        == sum(one.nbytes for one in dataset.values()) + dataset["iteration"].nbytes
    )
    assert (tmp_path / MEASUREMENTS).stat().st_size < counted.measurements_bytes + 150_000
    assert counted.snapshots_bytes == 4 * len(trainer.weights())
    assert (
        counted.snapshots_bytes
        < (tmp_path / "weights-12.pt").stat().st_size
        < counted.snapshots_bytes + 10_000
    )
    entropies = int(dataset["entropy"].notnull().all("k").sum())
    assert counted.entropies == entropies * 10 * 3 * counted.weights


def test_a_predicted_norm_costs_its_gradients():
    """Of 200 minibatches, four times in the first tenth of a run; where that is short, less often."""
    model, measurement = pt.models.ConvNet(2, in_channels=1), MeasurementConfig(window=5, gradients=2)
    for iterations, times in ((12_000, 4), (200, 3), (9, 0)):
        settings = {"iterations": iterations, "protocol": "fixed-lr", "weight_decay": 0.1}
        at_once, predicted = (
            cost_of_run(model, (1, 8, 8), 100, 10, TrainingConfig(**settings, start=start), measurement)
            for start in ("radius", "predicted")
        )
        assert predicted.passes - at_once.passes == pytest.approx(200 * times)
        assert predicted.training == at_once.training
        assert (predicted.gradients > at_once.gradients) == (times > 0)
