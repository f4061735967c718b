"""Random minibatches as functions of (seed, stream, step): a run can continue from any step.

Each purpose has a stream of its own, so that measuring never changes what is measured.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """Purposes that draw random numbers."""

    TRAINING = 0
    MEASUREMENT = 1
    BASELINE = 2


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

    def generator(self) -> np.random.Generator:
        """Return the generator of this draw: Philox keyed by seed and stream, at a counter of its own."""
        counter = [0, self.member, self.index, self.step]
        return np.random.Generator(np.random.Philox(key=[self.seed, self.stream], counter=counter))


def iid_batch(population: int, size: int, draw: Draw) -> Tensor:
    """Return the indices [size] of a minibatch drawn with replacement."""
    return torch.from_numpy(draw.generator().integers(population, size=size))


@dataclass
class IidBatches:
    """Training batches drawn with replacement."""

    population: int
    size: int
    seed: int

    def at(self, step: int) -> Tensor:
        """Return the indices [size] of the batch of this step."""
        return iid_batch(self.population, self.size, Draw(self.seed, Stream.TRAINING, step))


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

    def at(self, step: int) -> Tensor:
        """Return the indices [size] of the batch of this step."""
        epoch, batch = divmod(step, self.population // self.size)
        if epoch != self._epoch:
            order = Draw(self.seed, Stream.TRAINING, epoch).generator().permutation(self.population)
            self._epoch, self._permutation = epoch, torch.from_numpy(order)
        return self._permutation[batch * self.size : (batch + 1) * self.size]


BATCHES: dict[str, type[IidBatches] | type[EpochBatches]] = {"iid": IidBatches, "epochs": EpochBatches}


class BatchesOnDevice:
    """Training batches whose indices go to a device many steps at a time: a copy takes microseconds."""

    _STEPS = 512

    def __init__(self, batches: IidBatches | EpochBatches, device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._first = -self._STEPS
        self._indices = torch.empty(0)

    def at(self, step: int) -> Tensor:
        """Return the indices [size] of the batch of this step."""
        if self._device.type == "cpu":
            return self._batches.at(step)
        if not self._first <= step < self._first + self._STEPS:
            self._first = step - step % self._STEPS
            steps = range(self._first, self._first + self._STEPS)
            self._indices = torch.stack([self._batches.at(one) for one in steps]).to(self._device)
        return self._indices[step - self._first]
