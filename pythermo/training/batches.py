"""Random minibatches as functions of (seed, stream, step): a run can continue from any step.

Each purpose has a stream of its own, so that measuring never changes what is measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from pythermo.ops.minibatches import minibatches


class Stream(IntEnum):
    """Purposes that draw random numbers."""

    TRAINING = 0
    MEASUREMENT = 1
    BASELINE = 2
    CURVATURE = 3
    START = 4


@dataclass(frozen=True)
class Draw:
    """What random numbers are a function of: the seed, the purpose, and counters within it.

    ``member`` tells apart the draws of a common seed for the members of a sweep.
    """

    seed: int
    stream: Stream
    step: int = 0
    index: int = 0
    member: int = 0

    @property
    def numbers(self) -> tuple[int, int, int, int, int]:
        """All of it, as `pythermo.ops.minibatches` takes it."""
        return self.seed, int(self.stream), self.step, self.index, self.member

    def generator(self) -> np.random.Generator:
        """Return the generator of this draw: Philox keyed by seed and stream, at a counter of its own."""
        counter = [0, self.member, self.index, self.step]
        return np.random.Generator(np.random.Philox(key=[self.seed, self.stream], counter=counter))


def iid_batches(population: int, size: int, draws: Iterable[Draw]) -> Tensor:
    """Return the indices [draws, size] of minibatches drawn with replacement, as `Draw.generator` does."""
    indices: Tensor = minibatches(torch.tensor([draw.numbers for draw in draws]), population, size)
    return indices


@dataclass
class IidBatches:
    """Training batches drawn with replacement."""

    population: int
    size: int
    seed: int

    def of_steps(self, steps: range) -> Tensor:
        """Return the indices [steps, size] of the batches of these steps."""
        draws = [Draw(self.seed, Stream.TRAINING, step) for step in steps]
        return iid_batches(self.population, self.size, draws)


@dataclass
class EpochBatches:
    """Training batches from one permutation per epoch; what does not fill a last batch is left out."""

    population: int
    size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _permutation: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def __post_init__(self) -> None:
        if self.size > self.population:
            raise ValueError(
                f"training.batch_size: {self.size} is more than the {self.population} training images"
            )

    def of_steps(self, steps: range) -> Tensor:
        """Return the indices [steps, size] of the batches of these steps."""
        return torch.stack([self._at(step) for step in steps])

    def _at(self, step: int) -> Tensor:
        epoch, batch = divmod(step, self.population // self.size)
        if epoch != self._epoch:
            order = Draw(self.seed, Stream.TRAINING, epoch).generator().permutation(self.population)
            self._epoch, self._permutation = epoch, torch.from_numpy(order)
        return self._permutation[batch * self.size : (batch + 1) * self.size]


BATCHES: dict[str, type[IidBatches] | type[EpochBatches]] = {"iid": IidBatches, "epochs": EpochBatches}


class BatchesOnDevice:
    """Training batches that are drawn, and whose indices go to a device, many steps at a time."""

    _STEPS = 64  # of many runs on one device drawn while that makes a step or two

    def __init__(self, batches: IidBatches | EpochBatches, device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._steps = range(0)
        self._indices = torch.empty(0)

    def at(self, step: int) -> Tensor:
        """Return the indices [size] of the batch of this step."""
        if step not in self._steps:
            first = step - step % self._STEPS
            self._steps = range(first, first + self._STEPS)
            self._indices = self._batches.of_steps(self._steps).to(self._device)
        return self._indices[step - self._steps.start]
