"""What a thermometer takes beside the steps of a training loop."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch.nn import functional

from pythermo.bench.timing import median_seconds
from pythermo.models import ConvNet, initialize_, trained_parameters
from pythermo.optim import ProjectedSGD
from pythermo.training.thermometer import Thermometer

_BATCH = 128


@dataclass(frozen=True)
class ThermometerResult:
    """Median seconds on one thread: a step alone, the thermometer after it, a reading of a new window."""

    network: str
    weights: int
    window: int
    step: float
    after_step: float
    reading: float

    @property
    def share(self) -> float:
        """What the thermometer adds to a step."""
        return self.after_step / self.step


def measure(width: int, side: int, rounds: int, window: int = 250) -> ThermometerResult:
    """Measure a ConvNet on images of random numbers, batches of 128, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(width, side, rounds, window)
    finally:
        torch.set_num_threads(threads)


def _measure(width: int, side: int, rounds: int, window: int) -> ThermometerResult:
    model = initialize_(ConvNet(width, in_channels=1))
    params = trained_parameters(model)
    optimizer = ProjectedSGD(params, lr=1e-3)
    thermometer = Thermometer(params, optimizer, window=window)
    images, labels = torch.randn(_BATCH, 1, side, side), torch.randint(10, (_BATCH,))

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    loss = step().detach()
    seconds = median_seconds({"step": step, "after_step": lambda: thermometer.after_step(loss)}, rounds, 0.1)
    readings = []
    for _ in range(min(rounds, 5)):
        for _ in range(window):
            thermometer.after_step(step())
        began = time.perf_counter()
        thermometer.read()
        readings.append(time.perf_counter() - began)
    weights = sum(one.numel() for one in params)
    name = f"ConvNet({width}), {side}x{side}"
    return ThermometerResult(name, weights, window, reading=statistics.median(readings), **seconds)


def table(results: list[ThermometerResult]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| network | D | window | a step (ms) | thermometer (ms) | share | a reading (ms) |",
        "|" + "---|" * 7,
    ]
    for r in results:
        lines.append(
            f"| {r.network} | {r.weights} | {r.window} | {1e3 * r.step:.3f} | {1e3 * r.after_step:.4f} "
            f"| {r.share:.1%} | {1e3 * r.reading:.2f} |"
        )
    return "\n".join(lines)
