"""The callback of Lightning in the real library."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pythermo as pt

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from pythermo.integrations.lightning import ThermometerCallback  # noqa: E402
from pythermo.training.network import build_network  # noqa: E402

IMAGES = pt.data.load("digits", samples_per_class=20)


class Classifier(lightning.LightningModule):
    """A ConvNet on the sphere, as somebody writes it for Lightning."""

    def __init__(self, lr=0.05, initial=None):
        super().__init__()
        torch.manual_seed(0)
        self.network = pt.models.ConvNet(2, in_channels=1)
        self.network = pt.models.initialize_(self.network) if initial is None else initial
        self.lr = lr

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return pt.ProjectedSGD(pt.models.trained_parameters(self.network), lr=self.lr)


class Batches(torch.utils.data.IterableDataset):
    """Batches drawn with replacement."""

    def __init__(self, seed=0, size=32, count=10_000):
        self.seed, self.size, self.count = seed, size, count

    def __iter__(self):
        random = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            batch = torch.randint(len(IMAGES.train_labels), (self.size,), generator=random)
            yield IMAGES.train_images[batch], IMAGES.train_labels[batch]


def minibatch_loss(module):
    batch = torch.randint(len(IMAGES.train_labels), (32,))
    return nn.functional.cross_entropy(module.network(IMAGES.train_images[batch]), IMAGES.train_labels[batch])


def fit(tmp_path, module, callback, steps, seed=0, logger=False, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on workers and checkpoints
        trainer = lightning.Trainer(
            max_steps=steps, accelerator="cpu", devices=1, callbacks=[callback], logger=logger,
            default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, log_every_n_steps=1, **{"max_epochs": -1} | settings.pop("more", {}),
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(Batches(seed), batch_size=None), **settings)
    return trainer


def weights_of(module):
    return pt.models.trained_parameters(module.network)


def test_readings_are_logged_and_found_in_the_event_files(tmp_path):
    callback = ThermometerCallback(
        weights_of, every=40, minibatch_loss=minibatch_loss, window=60, k=10, gradients=5
    )
    logger = TensorBoardLogger(tmp_path, name="runs")
    fit(tmp_path, Classifier(), callback, 120, logger=logger)
    assert [one.iteration for one in callback.readings] == [40, 80, 120]
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for name in ("energy", "entropy", "snr", "noise_temperature", "effective_learning_rate"):
        logged = {event.step: event.value for event in events.Scalars(f"thermometer/{name}")}
        known = {one.iteration: one.scalars()[name] for one in callback.readings if name in one.scalars()}
        assert logged == pytest.approx(known, rel=1e-6)
    assert 120 in {event.step for event in events.Scalars("thermometer/entropy")}


def test_accumulated_batches_are_one_step(tmp_path):
    callback = ThermometerCallback(weights_of, every=10, window=60, k=10)
    fit(tmp_path, Classifier(), callback, 20, more={"accumulate_grad_batches": 3})
    assert [one.iteration for one in callback.readings] == [10, 20]


def test_a_checkpoint_has_the_thermometer(tmp_path):
    whole = ThermometerCallback(weights_of, every=70, window=60, k=10)
    trainer = fit(tmp_path, Classifier(), whole, 70)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    continued = ThermometerCallback(weights_of, every=35, window=60, k=10)
    fit(tmp_path, Classifier(), continued, 105, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    assert [one.iteration for one in continued.readings] == [105]
    assert np.isfinite(continued.readings[0].entropy)


@pytest.mark.slow
def test_what_it_measures_is_what_a_sweep_measures(tmp_path):
    """U, S and T of the noise from one initial point agree as means over seeds, within their errors."""
    config = pt.RunConfig.from_toml("""
        model = {name = "ConvNet", width = 2}
        data = {name = "digits", samples_per_class = 20}
        training = {iterations = 400, batch_size = 32, engine = "torch"}
        measurement = {count = 5, late = 60, stationary = 25, window = 100, gradients = 20}
    """)
    seeds, lr = 6, 0.05
    sweep = pt.sweep(config, [lr], tmp_path / "sweep", seeds, jobs=1).isel(lr=0)
    tail = sweep.isel(iteration=slice(-25, None))
    of_sweep = np.stack(
        [
            tail["loss"].mean("iteration"),
            sweep["entropy"].sel(k=50).isel(iteration=-1),
            lr * (tail["rms_noise_norm"] ** 2).mean("iteration") / (2 * 1529),
        ]
    )
    found = []
    for seed in range(seeds):
        start = build_network(config, IMAGES)
        callback = ThermometerCallback(
            weights_of, every=400, minibatch_loss=minibatch_loss, window=100, k=50, gradients=60
        )
        module = Classifier(lr, start)
        torch.manual_seed(seed)  # of the readings' minibatches
        fit(tmp_path, module, callback, 400, seed=seed)
        (reading,) = callback.readings
        found.append([reading.energy, reading.entropy, reading.noise_temperature])
    found = np.array(found).T
    difference = found.mean(1) - of_sweep.mean(1)
    error = np.sqrt((found.var(1, ddof=1) + of_sweep.var(1, ddof=1)) / seeds)
    # Student's t of 10 degrees: 4 standard errors are passed once in 400 times; three are looked at.
    assert (np.abs(difference) < 4 * error).all(), (difference / error, found.mean(1), of_sweep.mean(1))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(TypeError, match="params: must return the weights"):
        ThermometerCallback([])
    with pytest.raises(ValueError, match="every: must be an integer from 1"):
        ThermometerCallback(weights_of, every=0)
