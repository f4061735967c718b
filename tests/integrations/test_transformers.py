"""The callback of Hugging Face's transformers in the real library."""

import warnings

import pytest
import torch
from torch import nn

import pythermo as pt

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from pythermo.integrations.transformers import ThermometerCallback  # noqa: E402

IMAGES = pt.data.load("digits", samples_per_class=20)


class Classifier(nn.Module):
    """A ConvNet as the Trainer wants it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))

    def forward(self, images, labels):
        logits = self.network(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(IMAGES.train_labels)

    def __getitem__(self, index):
        return {"images": IMAGES.train_images[index], "labels": IMAGES.train_labels[index]}


def weights_of(model):
    return pt.models.trained_parameters(model.network)


def minibatch_loss(model):
    batch = torch.randint(len(IMAGES.train_labels), (32,))
    return model(IMAGES.train_images[batch], IMAGES.train_labels[batch])["loss"]


def test_readings_reach_what_the_trainer_reports_to(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    model = Classifier()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=90, per_device_train_batch_size=32, use_cpu=True,
        report_to=["tensorboard"], save_strategy="no", logging_steps=30, disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    optimizer = pt.ProjectedSGD(weights_of(model), lr=0.05)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own
        trainer = transformers.Trainer(
            model, arguments, train_dataset=Images(), optimizers=(optimizer, schedule)
        )
        callback = ThermometerCallback(
            weights_of, trainer.log, every=30, minibatch_loss=minibatch_loss, window=60, k=10, gradients=8
        )
        trainer.add_callback(callback)
        trainer.train()
    assert [one.iteration for one in callback.readings] == [30, 60, 90]
    last = callback.readings[-1]
    assert last.energy < callback.readings[0].energy
    assert last.learning_rate == 0.05
    assert last.noise_temperature > 0
    (folder,) = {path.parent for path in (tmp_path / "events").rglob("events.out.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if "thermometer/" in name]
    assert {name.rpartition("thermometer/")[2] for name in names} == set(last.scalars())
    (energy,) = [name for name in names if name.endswith("thermometer/energy")]
    logged = {event.step: event.value for event in events.Scalars(energy)}
    assert logged == pytest.approx({one.iteration: one.energy for one in callback.readings}, rel=1e-6)


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="log: must be a function"):
        ThermometerCallback(weights_of, None)
    with pytest.raises(TypeError, match="params: must be a function"):
        ThermometerCallback([], print)
