import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import xarray as xr

import pythermo as pt
from pythermo.experiment import measure
from pythermo.experiment import run as run_module
from pythermo.experiment.config import MeasurementConfig
from pythermo.experiment.network import build_model
from pythermo.experiment.run import CHECKPOINT, MEASUREMENTS, Trainer
from pythermo.experiment.storage import LOCK

QUICK = pt.RunConfig.from_toml("""
lr = 0.02
[model]
name = "ConvNet"
width = 2
[data]
name = "digits"
samples_per_class = 30
label_noise = 0.2
[training]
iterations = 120
batch_size = 32
[measurement]
count = 12
stationary = 3
window = 20
gradients = 4
""")


def changed(**sections) -> pt.RunConfig:
    values = QUICK.model_dump()
    for section, updates in sections.items():
        values[section] |= updates
    return pt.RunConfig.model_validate(values)


def final_weights(trainer: Trainer, measuring: bool) -> torch.Tensor:
    while trainer.iteration < trainer.config.training.iterations:
        if measuring and trainer.measurement_due:
            trainer.measure()
        trainer.step()
    return trainer.weights()


@pytest.mark.parametrize("full_gradient", ["mean", "evaluation"])
def test_measuring_does_not_change_the_weights(full_gradient):
    config = changed(measurement={"full_gradient": full_gradient})
    measured = final_weights(Trainer(config), measuring=True)
    assert torch.equal(measured, final_weights(Trainer(config), measuring=False))


def test_images_of_the_caller_s_own():
    given = pt.data.load("digits", samples_per_class=30, label_noise=0.2)
    elsewhere = changed(data={"samples_per_class": 5, "seed": 9})
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
        return torch.cat(
            [
                param.detach().flatten()
                for param in build_model(QUICK.model, QUICK.training, images).parameters()
            ]
        )

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
    assert pt.RunConfig.from_toml(dataset.attrs["config"]) == QUICK
    assert float(dataset["lr"]) == 0.02
    assert dataset["entropy"].attrs["units"] == "nats"
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


@pytest.mark.parametrize(
    "other",
    [
        {"training": {"seed": 5}},
        {"training": {"initial_seed": 5}},
        {"training": {"head_seed": 5}},
        {"training": {"sampling": "epochs"}},
        {"training": {"retraction": "exponential"}},
        {"training": {"radius": 2.0}},
        {"data": {"seed": 5}},
    ],
)
def test_every_setting_of_the_training_matters(other):
    short = {"iterations": 3}
    one = final_weights(Trainer(changed(training=short)), measuring=False)
    config = changed(**{**other, "training": {**short, **other.get("training", {})}})
    assert not torch.equal(one, final_weights(Trainer(config), measuring=False))


def test_effective_learning_rate():
    """On a sphere of radius r the effective LR is lr / r^2: the same path, r times as large."""
    one = final_weights(Trainer(changed(training={"iterations": 5})), measuring=False)
    config = changed(training={"iterations": 5, "radius": 2.0}).with_lr(0.08)
    two = final_weights(Trainer(config), measuring=False)
    # Powers of two: only BatchNorm's epsilon is not scaled along.
    torch.testing.assert_close(two / 2.0, one, rtol=0, atol=1e-6)


def test_the_two_full_gradients_differ_by_the_batches_statistics():
    noise = []
    for full_gradient in ("mean", "evaluation"):
        config = changed(measurement={"full_gradient": full_gradient, "gradients": 50})
        meter = Trainer(config).meter
        noise.append(meter.noise_at(0, meter.evaluate()[1]))
    assert noise[0].full_gradient == "mean"
    assert noise[1].full_gradient == "given"
    assert noise[0].mean_grad_norm == noise[1].mean_grad_norm
    assert noise[0].full_grad_norm == pytest.approx(noise[1].full_grad_norm, rel=0.3)
    assert noise[0].full_grad_norm != noise[1].full_grad_norm


def test_one_pass_gives_the_bits_of_loss_and_gradient():
    meter = Trainer(changed(measurement={"full_gradient": "evaluation", "evaluation_batch": 128})).meter
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


def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path, monkeypatch):
    """However long one takes, as a window of gigabytes does on a shared disk."""
    clock, written = [0.0], []

    def step(self):
        clock[0] += 1.0
        self.iteration += 1

    def write(path, state):
        if path.name == CHECKPOINT:
            clock[0] += 2.0
            written.append(state["iteration"])

    monkeypatch.setattr(run_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Trainer, "measurement_due", False)
    monkeypatch.setattr(run_module.storage, "write_state", write)
    trainer = Trainer(QUICK)
    trainer.rows.append({"loss": 1.0})
    run_module._train(trainer, tmp_path, lambda *_: None, checkpoint_seconds=10.0)
    assert written == [10, 48, 86]  # 38 s of steps, 2 s for the checkpoint


def test_a_finished_run_is_read_and_not_computed_again(tmp_path, monkeypatch):
    first = pt.run(QUICK, tmp_path, report=lambda *_: None)
    left = [LOCK, "config.toml", MEASUREMENTS, "weights-120.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("computed again"))
    assert pt.run(QUICK, tmp_path).identical(first)


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    pt.run(changed(training={"iterations": 2}), tmp_path, report=lambda *_: None)
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
        from pythermo.experiment import storage

        storage.claim_folder(folder, QUICK.model_dump(exclude_none=True))
        storage.write_state(folder / CHECKPOINT, trainer.state_dict())
        assert pt.run(QUICK, folder, report=lambda *_: None).identical(whole)


KILLED = """
import sys, torch
import pythermo as pt
torch.set_num_threads(1)
config = pt.RunConfig.from_toml(sys.stdin.read())
pt.run(config, sys.argv[1], report=lambda *_: None, checkpoint_seconds=0.02)
"""


def test_a_killed_run_goes_on_to_equal_bits(tmp_path):
    config = changed(training={"iterations": 600}, measurement={"count": 30})
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


def test_other_kinds_of_config_are_refused():
    with pytest.raises(TypeError, match=r"config: must be a pythermo.RunConfig, not dict"):
        pt.run({"lr": 0.1})


def test_measurement_defaults_are_the_paper_s():
    settings = MeasurementConfig()
    assert (settings.count, settings.stationary, settings.window, settings.gradients) == (193, 50, 1000, 1000)
