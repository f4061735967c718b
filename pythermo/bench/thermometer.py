"""What a thermometer takes beside the steps of a training loop."""

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
    """Median seconds on one thread: a step of a loop alone, the thermometer after it, and a reading."""

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
    for _ in range(window):
        thermometer.after_step(loss)
    seconds = median_seconds(
        {"step": step, "after_step": lambda: thermometer.after_step(loss), "reading": thermometer.read},
        rounds,
        0.1,
    )
    weights = sum(one.numel() for one in params)
    return ThermometerResult(f"ConvNet({width}), {side}x{side}", weights, window, **seconds)


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
