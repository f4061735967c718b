"""A whole run of ConvNet(8) against the published training loop's way of working."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pythermo.config.schedule import measured_iterations
from pythermo.config.schema import DataConfig, MeasurementConfig, PackageNetwork, RunConfig, TrainingConfig
from pythermo.data import Images
from pythermo.estimators.entropy import default_ks
from pythermo.estimators.gradient_noise import GradientNoise
from pythermo.models import ConvNet
from pythermo.models.layers import NormReLU, batch_norm
from pythermo.training.batches import Draw, Stream
from pythermo.training.measure import GradientMeter
from pythermo.training.network import build_network
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer


class Phase(StrEnum):
    """What a run spends its time on."""

    SAMPLING = "sampling"
    GRADIENT = "gradient"
    STEP = "step"
    RECORDING = "recording"
    LOSSES = "losses"
    NOISE = "noise"
    ENTROPY = "entropy"


class Stopwatch:
    """Seconds by phase; each phase lasts until the next one is entered."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(Phase, 0.0)
        self.phase: Phase | None = None
        self._since = 0.0

    def enter(self, phase: Phase | None) -> None:
        """Begin another phase, or none."""
        now = time.perf_counter()
        if self.phase is not None:
            self.seconds[self.phase] += now - self._since
        self.phase, self._since = phase, now


class Contender(Protocol):
    """A run that is taken forward step by step."""

    watch: Stopwatch
    iteration: int

    def step(self) -> None:
        """Make one training step."""

    def measure(self) -> None:
        """Measure the current iterate."""


@dataclass(frozen=True)
class _WatchedMeter(GradientMeter):
    watch: Stopwatch

    def noise_at(self, iteration: int, full_gradient: Tensor | None) -> GradientNoise:
        self.watch.enter(Phase.NOISE)
        noise = super().noise_at(iteration, full_gradient)
        self.watch.enter(Phase.ENTROPY)  # what is left of a measurement
        return noise


class Watched(Trainer):
    """A `Trainer` whose phases are timed from outside of its steps and measurements."""

    def __init__(self, config: RunConfig, images: Images) -> None:
        super().__init__(config, images)
        self.watch = Stopwatch()
        same = {field.name: getattr(self.meter, field.name) for field in fields(GradientMeter)}
        self.meter = _WatchedMeter(**same, watch=self.watch)
        self.model.register_forward_pre_hook(self._forward_begins)
        self.optimizer.register_step_pre_hook(lambda *_: self.watch.enter(Phase.STEP))
        self.optimizer.register_step_post_hook(lambda *_: self.watch.enter(Phase.RECORDING))

    def step(self) -> None:
        """Make one training step."""
        self.watch.enter(Phase.SAMPLING)
        super().step()
        self.watch.enter(None)

    def measure(self) -> None:
        """Measure the current iterate."""
        self.watch.enter(Phase.LOSSES)
        super().measure()
        self.watch.enter(None)

    def _forward_begins(self, *_: Any) -> None:
        if self.watch.phase is Phase.SAMPLING:
            self.watch.enter(Phase.GRADIENT)


class PlainConvNet(nn.Module):
    """ConvNet as the published code has it: default memory layout, pooling after ReLU, 4x4 pooling."""

    def __init__(self, model: ConvNet) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for module in model.features:
            if isinstance(module, NormReLU):
                layers += [batch_norm(module.channels), nn.ReLU()]
                layers += [nn.MaxPool2d(module.pool)] if module.pool > 1 else []
            else:
                layers.append(module)
        self.features = nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten())
        self.head = model.head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, channels, 32, 32]."""
        logits: Tensor = self.head(self.features(x))
        return logits


class Published:
    """The run as the published code makes it, with the batches and the schedule of a configuration.

    Each step: `torch.optim.SGD`, the squared norm of each tensor read back, each tensor scaled, all weights
    copied. Each measurement: training loss and full gradient in one pass over evaluation batches, the test
    loss, all minibatch gradients stacked, and, once the window is full, its distances by `torch.cdist` in
    float64 with a full sort. The published code also takes the entropy of the stacked gradients at each
    measurement and copies the gradient at each step; both are left out here, and the test loss needs no
    graph and has the batches' own statistics, as pythermo's.
    """

    def __init__(self, config: RunConfig, images: Images) -> None:
        self.config, self.data = config, images
        self.watch = Stopwatch()
        self.model = PlainConvNet(cast(ConvNet, build_network(config, images))).train()
        self.params = [param for param in self.model.parameters() if param.requires_grad]
        self.optimizer = torch.optim.SGD(self.params, lr=config.lr)
        self.rows: list[dict[str, Any]] = []
        self.iteration = 0
        self.window: deque[Tensor] = deque(maxlen=config.measurement.window)
        self.window.append(self.weights())

    def step(self) -> None:
        """Make one training step."""
        self.watch.enter(Phase.SAMPLING)
        batch = self._draw(Draw(self.config.training.seed, Stream.TRAINING, self.iteration))
        x, y = self.data.train_images[batch], self.data.train_labels[batch]
        self.watch.enter(Phase.GRADIENT)
        self.optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        self.watch.enter(Phase.STEP)
        self.optimizer.step()
        norm = np.sqrt(sum((param**2).sum().item() for param in self.params))
        for param in self.params:
            param.data *= 1.0 / norm
        self.watch.enter(Phase.RECORDING)
        self.window.append(self.weights())
        self.iteration += 1
        self.watch.enter(None)

    def measure(self) -> None:
        """Measure the current iterate."""
        self.watch.enter(Phase.LOSSES)
        loss, full_gradient = self._loss_and_gradient()
        test_loss = self._test_loss()
        self.watch.enter(Phase.NOISE)
        noise = self._noise(full_gradient)
        self.watch.enter(Phase.ENTROPY)
        entropy = [math.nan] * len(default_ks(self.config.measurement.window))
        if len(self.window) == self.window.maxlen:
            entropy = published_entropy(torch.stack(list(self.window))).tolist()
        self.rows.append({"loss": loss, "test_loss": test_loss, "entropy": entropy, **noise})
        self.watch.enter(None)

    def weights(self) -> Tensor:
        """Return a copy of the trained weights [D]."""
        return torch.cat([param.detach().flatten() for param in self.params]).cpu()

    def _gradient(self) -> Tensor:
        return torch.cat([param.grad.flatten() for param in self.params if param.grad is not None])

    def _loss_and_gradient(self) -> tuple[float, Tensor]:
        images, labels = self.data.train_images, self.data.train_labels
        batch = self.config.measurement.evaluation_batch
        total = 0.0
        self.model.zero_grad()
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            loss = cross_entropy(self.model(x), y, reduction="sum")
            loss.backward()
            total += loss.item()
        return total / len(labels), self._gradient() / len(labels)

    @torch.no_grad()
    def _test_loss(self) -> float:
        images, labels = self.data.test_images, self.data.test_labels
        batch = self.config.measurement.evaluation_batch
        parts = zip(images.split(batch), labels.split(batch), strict=True)
        return sum(cross_entropy(self.model(x), y, reduction="sum").item() for x, y in parts) / len(labels)

    def _draw(self, draw: Draw) -> Tensor:
        """Return the indices of a minibatch, drawn with replacement."""
        population, size = len(self.data.train_labels), self.config.training.batch_size
        return torch.from_numpy(draw.generator().integers(population, size=size))

    def _noise(self, full_gradient: Tensor) -> dict[str, float]:
        images, labels, settings = self.data.train_images, self.data.train_labels, self.config.measurement
        grads = []
        for index in range(settings.gradients):
            batch = self._draw(Draw(settings.seed, Stream.MEASUREMENT, self.iteration, index))
            self.model.zero_grad()
            cross_entropy(self.model(images[batch]), labels[batch]).backward()
            grads.append(self._gradient().cpu())
        stacked = torch.stack(grads)
        centered = stacked - full_gradient
        norm, rms = full_gradient.norm().item(), (centered**2).sum(dim=1).mean().sqrt().item()
        return {
            "snr": norm / rms,
            "full_grad_norm": norm,
            "mean_grad_norm": stacked.norm(dim=1).mean().item(),
            "mean_squared_grad_norm": (stacked**2).sum(dim=1).mean().item(),
            "mean_noise_norm": centered.norm(dim=1).mean().item(),
            "rms_noise_norm": rms,
        }


def published_entropy(points: Tensor) -> Tensor:
    """Return the kNN-graph entropies [len(ks)] of a window [n, D] by sorted float64 distances."""
    n, dim = points.shape
    wide = points.double()
    ascending = torch.cdist(wide, wide).sort(dim=-1).values
    lengths = torch.stack([ascending[:, : k + 1].sum().clip(min=1e-8) for k in default_ks(n)])
    return (dim - 1) * (lengths.log() - (dim - 2) / (dim - 1) * math.log(n))


@dataclass(frozen=True)
class TrainingResult:
    """Seconds of a whole run of one contender, by phase.

    ``sampling`` draws and gathers batches, ``gradient`` is forward and backward pass, ``step`` optimizer and
    projection, ``recording`` the copy of the weights into the window; of the measurements, ``losses`` are
    training loss with full gradient and test loss, ``noise`` the minibatch gradients and their norms,
    ``entropy`` that of the window. ``total`` has all of these and the loop around them.
    """

    contender: str
    weights: int
    threads: int
    iterations: int
    measurements: int
    gradients: int
    train_images: int
    test_images: int
    total: float
    sampling: float
    gradient: float
    step: float
    recording: float
    losses: float
    noise: float
    entropy: float

    @property
    def training(self) -> float:
        """Seconds of all training steps."""
        return self.sampling + self.gradient + self.step + self.recording

    @property
    def measuring(self) -> float:
        """Seconds of all measurements."""
        return self.losses + self.noise + self.entropy


def configuration(
    iterations: int, measurements: int, gradients: int, window: int = 1000, width: int = 8
) -> RunConfig:
    """Return the run that both make: the paper's schedule with so many log-spaced measurements."""
    return RunConfig(
        lr=3e-3,
        model=PackageNetwork(name="ConvNet", width=width),
        data=DataConfig(name="digits"),  # images are given to the contenders in their place
        training=TrainingConfig(iterations=iterations),
        measurement=MeasurementConfig(
            count=measurements,
            stationary=1,
            window=window,
            gradients=gradients,
            full_gradient="evaluation",
        ),
    )


def random_images(train: int, test: int) -> Images:
    """Return normal deviates as images [N, 3, 32, 32] of 10 classes; their time is that of any others."""
    generator = torch.Generator().manual_seed(1)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(count, 3, 32, 32, generator=generator)
        return images, torch.randint(10, (count,), generator=generator)

    return Images(*drawn(train), *drawn(test), num_classes=10)


def advance(contender: Contender, iteration: int) -> float:
    """Step up to an iteration, measure there and return the seconds of it."""
    started = time.perf_counter()
    while contender.iteration < iteration:
        contender.step()
    contender.measure()
    return time.perf_counter() - started


def measure(config: RunConfig, images: Images) -> list[TrainingResult]:
    """Take both contenders through the run in turns, from one measurement to the next.

    At its full size, 3000 iterations, 40 log-spaced measurements of 20 gradients, 2000 training and 500 test
    images, a run takes minutes on two cores. The paper makes 1 600 000 iterations and 201 measurements of
    1000 gradients on 50 000 and 10 000 images: one measured minibatch gradient in 8 iterations. Its schedule
    in 3000 iterations would be 62 in one, and hide all else; here it is one in 3, the same for both.
    """
    contenders: dict[str, Callable[[RunConfig, Images], Watched | Published]] = {
        "published": Published,
        "pythermo": Watched,
    }
    with own_settings(threads=None):
        runs = {name: make(config, images) for name, make in contenders.items()}
        totals = dict.fromkeys(runs, 0.0)
        measured = measured_iterations(config.training.iterations, config.measurement.count)
        for turn, iteration in enumerate(measured):
            for name in list(runs)[:: 1 if turn % 2 else -1]:
                totals[name] += advance(runs[name], int(iteration))
    return [
        TrainingResult(
            contender=name,
            weights=len(run.weights()),
            threads=torch.get_num_threads(),
            iterations=config.training.iterations,
            measurements=len(measured),
            gradients=config.measurement.gradients,
            train_images=len(images.train_labels),
            test_images=len(images.test_labels),
            total=totals[name],
            **{phase.value: run.watch.seconds[phase] for phase in Phase},
        )
        for name, run in runs.items()
    ]


def table(results: list[TrainingResult]) -> str:
    """Return the results as a Markdown table, with how many times faster the last is than the first."""
    lines = [
        "| contender | threads | total (s) | ms per training step | forward, backward (s) | step | sampling "
        "| weights kept | losses, full gradient | minibatch gradients | entropy |",
        "|" + "---|" * 11,
    ]
    rows = [[r.total, 1e3 * r.training / r.iterations, *_phases(r)] for r in results]
    for r, row in zip(results, rows, strict=True):
        lines.append(f"| {r.contender} | {r.threads} | " + " | ".join(f"{value:.4g}" for value in row) + " |")
    ratios = [first / last for first, last in zip(rows[0], rows[-1], strict=True)]
    lines.append(f"| x {results[0].contender} | | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


def _phases(r: TrainingResult) -> list[float]:
    return [r.gradient, r.step, r.sampling, r.recording, r.losses, r.noise, r.entropy]
