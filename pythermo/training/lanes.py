"""Members of an ensemble that lie in the lanes of one vector: their forward and backward pass, and step."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pythermo.ops.lanes_batch_norm import normalize, normalize_back
from pythermo.ops.lanes_convolution import (
    add_weight_gradients,
    convolve,
    convolve_back,
    lanes_of_members,
)
from pythermo.ops.lanes_head import head_losses
from pythermo.ops.lanes_step import exponential_step, gather, projected_step
from pythermo.ops.projected_sgd_step import STEP_ERRORS
from pythermo.training.program import BatchNorm, Convolution, Layer, Program, Sum, sources

_STEPS: dict[str, Callable[..., None]] = {"projection": projected_step, "exponential": exponential_step}

# Bytes in a line of the caches: a vector that lies in two of them takes twice as long to load.
_LINE = 64


def aligned_empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor, not yet written, that begins at a line of the caches; numpy asks for huge pages."""
    size = torch.empty(0, dtype=dtype).element_size()
    memory = np.empty(prod(shape) * size + _LINE, dtype=np.uint8)
    begin = -memory.ctypes.data % _LINE
    return torch.from_numpy(memory[begin : begin + prod(shape) * size]).view(dtype).reshape(shape)


class Weights:
    """Weights or gradients of the members of one vector, [D, lanes], and the views that convolutions take.

    Outside they are [members, D], each member's in the order of the module's parameters,
    [O, C, kernel, kernel]; here a convolution's are [kernel, kernel, C, O, lanes]. This is the one place
    where they change places.
    """

    def __init__(self, program: Program) -> None:
        lanes = lanes_of_members()
        self.flat = aligned_empty(program.dim, lanes).zero_()
        places = torch.arange(program.dim)
        order, self.of_layer, begin = [], [], 0
        for outputs, channels, height, width in program.weights:
            end = begin + outputs * channels * height * width
            own = places[begin:end].reshape(outputs, channels, height, width)
            order.append(own.permute(2, 3, 1, 0).flatten())
            self.of_layer.append(self.flat[begin:end].view(height, width, channels, outputs, lanes))
            begin = end
        self._order = torch.cat(order)

    def set(self, weights: Tensor) -> None:
        """Take the weights [members, D]; lanes without a member get those of the last one."""
        lanes = self.flat.shape[1]
        filled = torch.cat([weights, weights[-1:].expand(lanes - len(weights), -1)])
        self.flat.copy_(filled[:, self._order].T)

    def get(self, members: int) -> Tensor:
        """Return a copy of those of the first members, [members, D]."""
        weights = torch.empty(members, len(self._order))
        weights[:, self._order] = self.flat[:, :members].T
        return weights


def as_samples(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] as a batch of members takes them: [N, H * W * C]."""
    return images.permute(0, 2, 3, 1).flatten(1).contiguous()


@dataclass(frozen=True)
class Batch:
    """Images and labels of the members of a vector, each with its own.

    ``samples`` [N, height * width * channels] float32 are what the ``indices`` [lanes, B] choose from;
    ``labels`` are [B, lanes].
    """

    samples: Tensor
    indices: Tensor
    labels: Tensor

    @classmethod
    def of_members(cls, samples: Tensor, indices: Tensor, labels: Tensor) -> Self:
        """Return the batch of members [members, B]; lanes without a member get that of the last one."""
        lanes = torch.arange(lanes_of_members()).clamp(max=len(indices) - 1)
        return cls(samples, indices[lanes], labels[lanes].T.contiguous())

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Pass:
    """What one batch gave to the members of a vector."""

    losses: Tensor  # [lanes] float64
    hits: Tensor  # [lanes] int64


class _Memory:
    """Memory for the values of a program, written anew by each batch, and for their gradients.

    A batch of fewer images takes the beginning of what a larger one took.
    """

    def __init__(self, program: Program, places: list[int]) -> None:
        self._shapes, self._places = program.shapes, places
        self._flat: dict[int, Tensor] = {}
        self._views: dict[tuple[int, int, int], Tensor] = {}
        self._statistics: dict[int, Tensor] = {}

    @property
    def bytes(self) -> int:
        """Its size."""
        return sum(one.nbytes for one in [*self._flat.values(), *self._statistics.values()])

    def value(self, value: int, images: int) -> Tensor:
        """Return the place of a value, [images, height, width, channels, lanes]."""
        return self._at(self._places[value], value, images)

    def grad(self, value: int, images: int, use: int = 0) -> Tensor:
        """Return a place for a gradient of a value; ``use`` tells several apart."""
        return self._at(-1 - value - use * len(self._shapes), value, images)

    def statistics(self, value: int) -> Tensor:
        """Return the place of the statistics of a normalization."""
        if value not in self._statistics:
            self._statistics[value] = aligned_empty(2 * self._shapes[value][0] * lanes_of_members())
        return self._statistics[value]

    def _at(self, place: int, value: int, images: int) -> Tensor:
        key = place, value, images
        if key not in self._views:
            channels, height, width = self._shapes[value]
            shape = (images, height, width, channels, lanes_of_members())
            if place not in self._flat or self._flat[place].numel() < prod(shape):
                # The old one goes before there is another.
                self._views = {other: view for other, view in self._views.items() if other[0] != place}
                self._flat.pop(place, None)
                self._flat[place] = aligned_empty(prod(shape))
            self._views[key] = self._flat[place][: prod(shape)].view(shape)
        return self._views[key]


def _shared_places(program: Program) -> list[int]:
    """Return a place in memory for each value, so that one is used again when its value is not."""
    last_use = {program.head.source: len(program.layers)}
    for number, layer in enumerate(program.layers):
        for source in sources(layer):
            last_use[source] = max(number, last_use.get(source, number))
    places, free = [0], list[int]()
    for number in range(len(program.layers)):
        places.append(free.pop() if free else max(places) + 1)
        free += [places[value] for value, last in last_use.items() if last == number and value <= number]
    return places


class LaneNetwork:
    """A program with the weights of as many members as a vector has lanes."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.weights, self.grad = Weights(program), Weights(program)
        self._status = torch.zeros(lanes_of_members(), dtype=torch.int64)
        self._kept = _Memory(program, list(range(len(program.shapes))))
        self._passing = _Memory(program, _shared_places(program))
        users = [value for layer in program.layers for value in sources(layer)] + [program.head.source]
        self._used_once = {value for value in range(len(program.shapes)) if users.count(value) == 1}

    @property
    def bytes(self) -> int:
        """Memory that it takes, with that of the batches so far."""
        own = self.weights.flat.nbytes + self.grad.flat.nbytes
        return own + self._kept.bytes + self._passing.bytes

    def losses(self, batch: Batch, squared_error: bool) -> Pass:
        """Return the losses of a batch."""
        return self._forward(batch, squared_error, torch.empty(0), self._passing)

    def losses_and_gradient(self, batch: Batch, squared_error: bool) -> Pass:
        """Return the same, and write the weights' gradients to `grad`."""
        last = self.program.head.source
        grad = self._kept.grad(last, len(batch))
        result = self._forward(batch, squared_error, grad.view(-1), self._kept)
        self.grad.flat.zero_()
        found = {last: grad}
        for value in range(len(self.program.layers), 0, -1):
            self._back(self.program.layers[value - 1], value, found)
        return result

    def step(self, retraction: str, lr: Tensor, radius: float) -> list[str | None]:
        """Move the members by their gradients, lr [lanes] in float64; say why one was not, if so."""
        move = _STEPS[retraction]
        move(self.weights.flat, self.grad.flat, lr, radius, self._status)
        return [STEP_ERRORS[code] if code != 0 else None for code in self._status.tolist()]

    def _forward(self, batch: Batch, squared_error: bool, grad: Tensor, memory: _Memory) -> Pass:
        head, lanes, size = self.program.head, lanes_of_members(), len(batch)
        gather(batch.samples, batch.indices, memory.value(0, size).flatten(1, 3))
        for value, layer in enumerate(self.program.layers, start=1):
            source, output = memory.value(layer.source, size), memory.value(value, size)
            if isinstance(layer, Convolution):
                weights = self.weights.of_layer[layer.weights]
                convolve(source, weights, layer.stride, layer.padding, output)
            elif isinstance(layer, BatchNorm):
                normalize(source, layer.pool, layer.rectify, layer.eps, output, memory.statistics(value))
            else:
                torch.add(source, memory.value(layer.other, size), out=output)
        result = Pass(torch.empty(lanes, dtype=torch.float64), torch.empty(lanes, dtype=torch.int64))
        head_losses(
            memory.value(head.source, size).flatten(1, 2),
            head.weights,
            head.bias,
            batch.labels,
            largest=head.largest,
            squared_error=squared_error,
            losses=result.losses,
            hits=result.hits,
            grad=grad,
        )
        return result

    def _back(self, layer: Layer, value: int, found: dict[int, Tensor]) -> None:
        """Bring the gradient of a value, of which all is found, to what its layer came from."""
        grad, source, memory = found[value], layer.source, self._kept
        x = memory.value(source, len(grad))
        if isinstance(layer, Sum):
            for one in sources(layer):
                self._add(one, grad, found)
            return
        if isinstance(layer, Convolution):
            weights, own = self.weights.of_layer[layer.weights], self.grad.of_layer[layer.weights]
            add_weight_gradients(x, grad, layer.stride, layer.padding, own)
            if source == 0:
                return
            target = memory.grad(source, len(grad), use=1 if source in found else 0)
            convolve_back(grad, weights, layer.stride, layer.padding, target)
        else:
            # Nothing else needs what was normalized: its gradient takes the place.
            alone = source in self._used_once and source > 0
            target = x if alone else memory.grad(source, len(grad), use=1 if source in found else 0)
            output, statistics = memory.value(value, len(grad)), memory.statistics(value)
            normalize_back(x, layer.pool, layer.rectify, output, statistics, grad, target)
        self._add(source, target, found)

    def _add(self, value: int, grad: Tensor, found: dict[int, Tensor]) -> None:
        if value in found:
            found[value] = torch.add(found[value], grad, out=self._kept.grad(value, len(grad), use=2))
        else:
            found[value] = grad
