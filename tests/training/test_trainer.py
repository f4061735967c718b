from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from quick import QUICK

import pythermo as pt
from pythermo._parameters import flatten, write_
from pythermo.config.schema import MeasurementConfig
from pythermo.training import measure
from pythermo.training.network import build_network
from pythermo.training.trainer import Trainer


def final_weights(trainer: Trainer, measuring: bool) -> torch.Tensor:
    while trainer.iteration < trainer.config.training.iterations:
        if measuring and trainer.measurement_due:
            trainer.measure()
        trainer.step()
    return trainer.weights()


@pytest.mark.parametrize("full_gradient", ["mean", "evaluation"])
def test_measuring_does_not_change_the_weights(full_gradient):
    config = QUICK.changed(**{"measurement.full_gradient": full_gradient})
    measured = final_weights(Trainer(config), measuring=True)
    assert torch.equal(measured, final_weights(Trainer(config), measuring=False))


def test_images_of_the_caller_s_own():
    given = pt.data.load("digits", samples_per_class=30, label_noise=0.2)
    elsewhere = QUICK.changed(**{"data.samples_per_class": 5, "data.seed": 9})
    expected = final_weights(Trainer(QUICK), measuring=False)
    assert torch.equal(final_weights(Trainer(elsewhere, given), measuring=False), expected)


def test_measuring_leaves_gradients_and_mode_and_the_global_generator():
    state = torch.random.get_rng_state()
    trainer = Trainer(QUICK)
    trainer.step()
    assert torch.equal(torch.random.get_rng_state(), state)
    grads = [param.grad.clone() for param in trainer.params]
    state = torch.random.get_rng_state()
    trainer.model.eval()
    trainer.rows.append({})  # iteration 0 is passed over
    trainer.measure()
    assert not trainer.model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(param.grad, grad) for param, grad in zip(trainer.params, grads, strict=True))


def test_threads_build_the_same_network():
    images = pt.data.load("digits")

    def built(_) -> torch.Tensor:
        return flatten(build_network(QUICK, images).parameters())

    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(built, range(40))
    assert all(torch.equal(first, other) for other in others)


def test_results():
    seen = []
    dataset = pt.run(QUICK, report=lambda iteration, loss: seen.append((iteration, loss)))
    assert seen[-1] == (120, float(dataset["loss"][-1]))
    assert dataset["iteration"].values.tolist()[:10] == list(range(10))
    assert int(dataset["iteration"][-1]) == 120
    assert dataset.attrs["weights"] == 1530
    by_torch = QUICK.changed(**{"training.engine": "torch"})
    assert pt.RunConfig.from_toml(dataset.attrs["config"]) == by_torch
    assert (float(dataset["lr"]), int(dataset["seed"])) == (0.02, 0)
    early = dataset["iteration"].values < 19
    assert dataset["entropy"].values[early].size > 0
    assert np.isnan(dataset["entropy"].values[early]).all()
    assert np.isfinite(dataset["entropy"].values[~early]).all()
    assert (np.diff(dataset["entropy"].values[-1]) > 0).all()  # L_k grows with k
    assert float(dataset["loss"][-1]) < float(dataset["loss"][0])
    assert float(dataset["train_accuracy"][-1]) > 0.3


def test_the_entropy_is_that_of_the_last_iterates():
    trainer = Trainer(QUICK)
    path = [trainer.weights()]
    while trainer.iteration < 120:
        trainer.step()
        path.append(trainer.weights())
    dataset = pt.run(QUICK, report=lambda *_: None)
    for iteration in dataset["iteration"].values[-3:]:
        window = torch.stack(path[iteration - 19 : iteration + 1])
        expected = pt.knn_graph_entropy(window, dataset["k"].values)
        np.testing.assert_allclose(dataset["entropy"].sel(iteration=iteration), expected, rtol=1e-12)


def test_the_quench_loss_is_that_of_the_mean_of_the_last_iterates():
    trainer = Trainer(QUICK)
    path = [trainer.weights()]
    while trainer.iteration < 120:
        trainer.step()
        path.append(trainer.weights())
    quench = pt.run(QUICK, report=lambda *_: None)["quench_loss"]
    assert np.isnan(quench.sel(iteration=slice(0, 18))).all()
    mean = torch.stack(path[-20:]).mean(0)
    write_(trainer.params, mean / mean.norm())
    # Not bit-equal: the window's mean is summed in float64 and in another order.
    assert float(quench[-1]) == pytest.approx(trainer.meter.evaluate()[0].loss, rel=1e-5)


def test_curvature_is_measured_where_it_is_asked_for_and_counts():
    config = QUICK.changed(**{"training.iterations": 20, "measurement.stationary": 2})
    names = ["squared_loss_grad_norm", "hessian_trace", "largest_curvature", "batch_sharpness"]
    without = pt.run(config)[names]
    assert all(without[name].isnull().all() for name in names)
    found = pt.run(config.changed(**{"measurement.hessian_probes": 30, "measurement.power_iterations": 20}))[
        names
    ]
    assert all(found[name].isnull()[:-2].all() for name in names)
    assert all(found[name].notnull()[-2:].all() for name in names)
    trainer = Trainer(config)
    while trainer.iteration < 20:
        trainer.step()
    images, labels = trainer.data.train_images, trainer.data.train_labels
    assert len(labels) <= config.measurement.evaluation_batch
    gradient = trainer.meter.gradient(images, labels).double()
    assert float(found["squared_loss_grad_norm"][-1]) == pytest.approx(float(gradient @ gradient), rel=1e-5)
    last = found.isel(iteration=-1)
    assert 0 < float(last["largest_curvature"]) < float(last["hessian_trace"])
    here, along, squared = trainer.weights().double(), 0.0, 0.0
    for batch in trainer.meter._minibatches(20):
        own = trainer.meter.gradient(*batch).double()
        reach = config.measurement.hessian_step * own / own.norm()
        slopes = []
        for side in (1, -1):
            write_(trainer.params, (here + side * reach).float())
            slopes.append(float(own @ trainer.meter.gradient(*batch).double()))
        write_(trainer.params, here.float())
        along += (slopes[0] - slopes[1]) / (2 * config.measurement.hessian_step / float(own.norm()))
        squared += float(own @ own)
    # Not equal: the weights of both sides are rounded to float32, and a kink may be on either side of one.
    assert float(last["batch_sharpness"]) == pytest.approx(along / squared, rel=0.01)


def test_a_checkpoint_from_before_a_quantity_was_measured_goes_on():
    trainer, continued = Trainer(QUICK), Trainer(QUICK)
    for _ in range(15):
        trainer.advance()
    state = trainer.state_dict()
    state["rows"] = [
        {name: value for name, value in row.items() if name != "quench_loss"} for row in state["rows"]
    ]
    continued.load_state_dict(state)
    while not continued.finished:
        continued.advance()
    found = continued.to_dataset()
    assert np.isnan(found["quench_loss"][0])
    assert np.isfinite(found["quench_loss"][-1])
    assert np.isfinite(found["loss"]).all()


@pytest.mark.parametrize(
    "other",
    [
        {"training.seed": 5},
        {"training.initial_seed": 5},
        {"training.head_seed": 5},
        {"training.sampling": "epochs"},
        {"training.retraction": "exponential"},
        {"training.radius": 2.0},
        {"data.seed": 5},
    ],
)
def test_every_setting_of_the_training_matters(other):
    short = QUICK.changed(**{"training.iterations": 3})
    one = final_weights(Trainer(short), measuring=False)
    assert not torch.equal(one, final_weights(Trainer(short.changed(**other)), measuring=False))


def test_effective_learning_rate():
    """On a sphere of radius r the effective LR is lr / r^2: the same path, r times as large."""
    one = final_weights(Trainer(QUICK.changed(**{"training.iterations": 5})), measuring=False)
    config = QUICK.changed(lr=0.08, **{"training.iterations": 5, "training.radius": 2.0})
    two = final_weights(Trainer(config), measuring=False)
    # Powers of two: only BatchNorm's epsilon is not scaled along.
    torch.testing.assert_close(two / 2.0, one, rtol=0, atol=1e-6)


def test_the_two_full_gradients_differ_by_the_batches_statistics():
    noise = []
    for full_gradient in ("mean", "evaluation"):
        config = QUICK.changed(**{"measurement.full_gradient": full_gradient, "measurement.gradients": 50})
        meter = Trainer(config).meter
        noise.append(meter.noise_at(0, meter.evaluate()[1]))
    assert noise[0].full_gradient == "mean"
    assert noise[1].full_gradient == "given"
    assert noise[0].mean_grad_norm == noise[1].mean_grad_norm
    assert noise[0].full_grad_norm == pytest.approx(noise[1].full_grad_norm, rel=0.3)
    assert noise[0].full_grad_norm != noise[1].full_grad_norm


def test_one_pass_gives_the_bits_of_loss_and_gradient():
    meter = Trainer(
        QUICK.changed(**{"measurement.full_gradient": "evaluation", "measurement.evaluation_batch": 128})
    ).meter
    images, labels = meter.data.train_images, meter.data.train_labels
    evaluation, gradient = meter.evaluate()
    assert evaluation == measure.evaluate(meter.model, meter.loss, images, labels, 128)
    assert 0.0 < evaluation.accuracy < 1.0
    parts = zip(images.split(128), labels.split(128), strict=True)
    expected = sum(len(y) * meter.gradient(x, y).double() for x, y in parts) / len(labels)
    # len(y) times a gradient is rounded to float32 in one and to float64 in the other.
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))


def test_gradients_that_are_kept_give_the_bits_of_those_computed_twice(monkeypatch):
    trainer = Trainer(QUICK)
    computed = []
    gradient = measure.GradientMeter.gradient

    def counted(self, images, labels):
        computed.append(len(labels))
        return gradient(self, images, labels)

    monkeypatch.setattr(measure.GradientMeter, "gradient", counted)
    size = 4 * 4 * 1530  # four gradients of float32
    noise = []
    for limit, times in ((size, 1), (size - 1, 2)):
        monkeypatch.setattr(measure, "KEPT_BYTES", limit)
        computed.clear()
        noise.append(trainer.meter.noise_at(7, None))
        assert computed == times * 4 * [32]
    assert noise[0] == noise[1]
    assert noise[0] != trainer.meter.noise_at(8, None)


def test_members_with_other_seeds_are_measured_with_other_minibatches():
    """Errors over seeds would come out too small if they shared them."""
    meters = [Trainer(QUICK.changed(**{"training.seed": seed})).meter for seed in (0, 1)]
    one, other = (meter.noise_at(0, None) for meter in meters)
    assert one.mean_grad_norm != other.mean_grad_norm
    again = Trainer(QUICK).meter.noise_at(0, None)
    assert one == again


def test_measurement_defaults_are_the_paper_s():
    settings = MeasurementConfig()
    assert (settings.count, settings.stationary, settings.window, settings.gradients) == (193, 50, 1000, 1000)
