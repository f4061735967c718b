"""Members of an ensemble that lie side by side: their forward and backward pass, and step."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from pythermo.ops.lanes_batch_norm import (
    add_gradient_moments,
    add_moments,
    normalize,
    normalize_back,
    write_gradient_statistics,
    write_statistics,
)
from pythermo.ops.lanes_convolution import (
    add_weight_gradients,
    convolve,
    convolve_back,
)
from pythermo.ops.lanes_head import head_losses
from pythermo.ops.lanes_step import gather, member_step, products
from pythermo.training.lane_layout import Batch, Layout, Weights
from pythermo.training.program import BatchNorm, Convolution, Layer, Program, Sum, sources


@dataclass(frozen=True)
class Pass:
    """What one batch gave to members side by side."""

    losses: Tensor  # [members] float64
    hits: Tensor  # [members] int64


# A kernel's call, whose arguments are known before a batch comes; and what gives it for a part of the batch.
Call = Callable[[], object]
OfPart = Callable[[slice], Call]

# Layers between two normalizations, with the values that they give.
Stage = list[tuple[int, Layer]]

# What gives the part of a tensor.
Place = Callable[[slice], Tensor]

# On the CPU, of the largest value, what is computed in turn with what comes before and after it: it stays in
# the cache.
_PART_BYTES = 2**20

# So many sizes of batches have their calls kept.
_SIZES = 16


class _Memory:
    """Memory of the values of a program and of their gradients, and the calls that go through it.

    A batch of fewer images takes the beginning of what a larger one took. Values that are ``passing`` have
    memory for one part of a batch.
    """

    def __init__(self, program: Program, layout: Layout, passing: Collection[int] = ()) -> None:
        self._layout = layout
        self._shapes = [(height, width, channels) for channels, height, width in program.shapes]
        self._passing = () if layout.on_a_device else passing
        self._images = 0
        self._flat: dict[tuple[int, int], Tensor] = {}
        self._constants: dict[tuple[int, str], Tensor] = {}
        self.calls: dict[int, tuple[list[Call], list[Call]]] = {}  # forward and back, by number of images

    @property
    def bytes(self) -> int:
        """Its size."""
        return sum(one.nbytes for one in [*self._flat.values(), *self._constants.values()])

    def reserve(self, images: int) -> None:
        """Make room for batches of so many images, and for their calls."""
        if images > self._images:
            self._images = images
            self.calls.clear()
            self._flat.clear()
        if images not in self.calls and len(self.calls) == _SIZES:
            self.calls.clear()

    def parts(self, images: int, stage: Stage) -> list[slice]:
        """Return the parts in which a batch goes through a stage, one after the other."""
        values = {one for value, layer in stage for one in (value, *sources(layer))}
        largest = 4 * self._layout.lanes * max(prod(self._shapes[value]) for value in values)
        step = images if self._layout.on_a_device else max(1, _PART_BYTES // largest)
        return [slice(first, min(first + step, images)) for first in range(0, images, step)]

    def value(self, value: int, part: slice) -> Tensor:
        """Return the place of a value's part, [..., images, height, width, channels, lanes]."""
        if value in self._passing:
            images = part.stop - part.start  # of the first part the most
            return self._at((value, 0), value, images, slice(0, images))
        return self._at((value, 0), value, self._images, part)

    def grad(self, value: int, use: int) -> Place:
        """Return a place for a gradient of a value, of which it gives parts; ``use`` tells several apart."""
        return lambda part: self._at((value, 1 + use), value, self._images, part)

    def constants(self, value: int) -> Tensor:
        """Return the constants of the normalization that gives a value."""
        return self._of_channels(value, "constants", 4, torch.float32)

    def sums(self, value: int) -> Tensor:
        """Return the sums over a value that is to be normalized."""
        return self._of_channels(value, "sums", 2, torch.float64)

    def gradient_sums(self, value: int) -> Tensor:
        """Return the sums over the gradients of a value that was normalized."""
        return self._of_channels(value, "gradient sums", 2, torch.float64)

    def _at(self, place: tuple[int, int], value: int, images: int, part: slice) -> Tensor:
        layout, shape = self._layout, self._shapes[value]
        if place not in self._flat:
            self._flat[place] = layout.flat(images * prod(shape))
        if layout.on_a_device:
            images, part = part.stop, slice(None)  # of a whole batch
        own = layout.shape(images, *shape)
        return self._flat[place][: prod(own)].view(own)[part]

    def _of_channels(self, value: int, what: str, times: int, dtype: torch.dtype) -> Tensor:
        if (value, what) not in self._constants:
            each = times * self._shapes[value][2]
            self._constants[value, what] = self._layout.flat(each, dtype)
        return self._constants[value, what]


def _stages(layers: Iterable[tuple[int, Layer]]) -> list[Stage]:
    """Cut layers, with the values that they give, before each normalization: it waits for the whole batch."""
    stages: list[Stage] = [[]]
    for value, layer in layers:
        if isinstance(layer, BatchNorm) and stages[-1]:
            stages.append([])
        stages[-1].append((value, layer))
    return stages


def passing_values(program: Program) -> set[int]:
    """Return the values that are taken in the stage that gives them, and in no other."""
    stages = _stages(enumerate(program.layers, start=1))
    given = {value: number for number, stage in enumerate(stages) for value, _ in stage}
    passing = set(given) - {program.head.source}
    for number, stage in enumerate(stages):
        for _, layer in stage:
            passing -= {source for source in sources(layer) if given.get(source) != number}
    return passing


class LaneNetwork:
    """A program with the weights of as many members as a layout has room for."""

    def __init__(self, program: Program, layout: Layout) -> None:
        self.program, self.layout = program, layout
        self.weights, self.grad = Weights(program, layout), Weights(program, layout)
        self.status = layout.flat(dtype=torch.int64).zero_()  # of the last step: 0, or one of STEP_ERRORS
        self.products = layout.flat(3, dtype=torch.float64).zero_()
        self._head_weights = program.head.weights.to(layout.device)
        self._head_bias = program.head.bias.to(layout.device)
        self._kept = _Memory(program, layout)
        self._passing = _Memory(program, layout, passing_values(program))
        users = [value for layer in program.layers for value in sources(layer)] + [program.head.source]
        self._used_once = {value for value in range(len(program.shapes)) if users.count(value) == 1}

    @property
    def bytes(self) -> int:
        """Memory that it takes, with that of the batches so far."""
        own = self.weights.flat.nbytes + self.grad.flat.nbytes
        return own + self._kept.bytes + self._passing.bytes

    def losses(self, batch: Batch, squared_error: bool) -> Pass:
        """Return the losses of a batch."""
        memory, whole = self._passing, slice(0, len(batch))
        memory.reserve(len(batch))
        if len(batch) not in memory.calls:
            memory.calls[len(batch)] = self._forward(memory, whole), []
        return self._go_forward(batch, squared_error, self.grad.flat.new_empty(0), memory)

    def losses_and_gradient(self, batch: Batch, squared_error: bool) -> Pass:
        """Return the same, and write the weights' gradients to `grad`."""
        memory, whole = self._kept, slice(0, len(batch))
        memory.reserve(len(batch))
        if len(batch) not in memory.calls:
            memory.calls[len(batch)] = self._forward(memory, whole), self._backward(memory, whole)
        grad = memory.grad(self.program.head.source, 0)(whole).view(-1)
        result = self._go_forward(batch, squared_error, grad, memory)
        for call in memory.calls[len(batch)][1]:
            call()
        return result

    def step(self, kernel: str, lr: Tensor, parameter: Tensor) -> None:
        """Move the members by their gradients; `status` says which were not.

        ``lr`` and what the kernel takes beside it are [members] in float64.
        """
        member_step(kernel, self.weights.flat, self.grad.flat, lr, parameter, self.status)

    def take_products(self) -> Tensor:
        """Return |w|^2, |g|^2 and <w, g> of the members, [... * 3 * lanes]; the next call overwrites them."""
        products(self.weights.flat, self.grad.flat, self.products)
        return self.products

    def _go_forward(self, batch: Batch, squared_error: bool, grad: Tensor, memory: _Memory) -> Pass:
        head, whole = self.program.head, slice(0, len(batch))
        gather(batch.samples, batch.indices, memory.value(0, whole).flatten(-4, -2))
        for call in memory.calls[len(batch)][0]:
            call()
        result = Pass(self.layout.flat(dtype=torch.float64), self.layout.flat(dtype=torch.int64))
        head_losses(
            memory.value(head.source, whole).flatten(-4, -3),
            self._head_weights,
            self._head_bias,
            batch.labels,
            largest=head.largest,
            squared_error=squared_error,
            losses=result.losses,
            hits=result.hits,
            grad=grad,
        )
        return result

    def _forward(self, memory: _Memory, whole: slice) -> list[Call]:
        """Return what computes the values of a batch, stage by stage and in each part by part."""
        layers = self.program.layers
        normalized = {layer.source for layer in layers if isinstance(layer, BatchNorm)}
        calls: list[Call] = [memory.sums(value).zero_ for value in normalized]
        for value in normalized & {0}:
            batch = memory.value(value, whole)
            calls.append(add_moments.prepared(batch, batch, memory.sums(value)))
        for stage in _stages(enumerate(layers, start=1)):
            value, first = stage[0]
            if isinstance(first, BatchNorm):
                batch, sums = memory.value(first.source, whole), memory.sums(first.source)
                calls.append(write_statistics.prepared(sums, batch, first.eps, memory.constants(value)))
            for part in memory.parts(whole.stop, stage):
                for value, layer in stage:
                    output = memory.value(value, part)
                    calls.append(self._compute(layer, value, output, memory, part))
                    if value in normalized:
                        batch = memory.value(value, whole)
                        calls.append(add_moments.prepared(output, batch, memory.sums(value)))
        return calls

    def _compute(self, layer: Layer, value: int, output: Tensor, memory: _Memory, part: slice) -> Call:
        x = memory.value(layer.source, part)
        if isinstance(layer, Convolution):
            weights = self.weights.of_layer(layer.weights)
            return convolve.prepared(x, weights, layer.stride, layer.padding, output)
        if isinstance(layer, BatchNorm):
            return normalize.prepared(x, layer.pool, layer.rectify, memory.constants(value), output)
        return partial(torch.add, x, memory.value(layer.other, part), out=output)

    def _backward(self, memory: _Memory, whole: slice) -> list[Call]:
        """Return what computes the gradients of a batch from that of the last value, in stages and parts."""
        layers = list(enumerate(self.program.layers, start=1))
        stages = _stages(reversed(layers))
        grads = {self.program.head.source: memory.grad(self.program.head.source, 0)}
        calls: list[Call] = [self.grad.flat.zero_]
        calls += [memory.gradient_sums(value).zero_ for value, one in layers if isinstance(one, BatchNorm)]
        calls += [add(whole) for add in self._add_sums(*stages[0][0], grads, memory)]
        for number, stage in enumerate(stages):
            value, first = stage[0]
            if isinstance(first, BatchNorm):
                batch, sums = memory.value(first.source, whole), memory.gradient_sums(value)
                calls.append(write_gradient_statistics.prepared(sums, batch, memory.constants(value)))
            steps = [step for value, layer in stage for step in self._back(layer, value, grads, memory)]
            if number + 1 < len(stages):
                steps += self._add_sums(*stages[number + 1][0], grads, memory)
            calls += [step(part) for part in memory.parts(whole.stop, stage) for step in steps]
        return calls

    def _add_sums(self, value: int, layer: Layer, grads: dict[int, Place], memory: _Memory) -> list[OfPart]:
        """Return what adds up the gradients of a value that was normalized, once they are known."""
        if not isinstance(layer, BatchNorm):
            return []
        grad, sums = grads[value], memory.gradient_sums(value)
        return [
            lambda part: add_gradient_moments.prepared(
                memory.value(value, part), layer.rectify, grad(part), sums
            )
        ]

    def _back(self, layer: Layer, value: int, grads: dict[int, Place], memory: _Memory) -> list[OfPart]:
        """Return what brings the gradient of a value, of which all is known, to what its layer came from."""
        grad, source = grads[value], layer.source
        if isinstance(layer, Sum):
            return [step for one in sources(layer) for step in self._add(one, grad, grads, memory)]
        use = 1 if source in grads else 0
        if isinstance(layer, Convolution):
            at = layer.stride, layer.padding
            weights, own = self.weights.of_layer(layer.weights), self.grad.of_layer(layer.weights)
            steps: list[OfPart] = [
                lambda part: add_weight_gradients.prepared(memory.value(source, part), grad(part), *at, own)
            ]
            if source == 0:
                return steps
            target = memory.grad(source, use)
            steps.append(lambda part: convolve_back.prepared(grad(part), weights, *at, target(part)))
            return steps + self._add(source, target, grads, memory)
        # Nothing else needs what was normalized: its gradient takes the place.
        alone = source in self._used_once and source > 0
        target = partial(memory.value, source) if alone else memory.grad(source, use)
        pool, constants = (layer.pool, layer.rectify), memory.constants(value)
        steps = [
            lambda part: normalize_back.prepared(
                memory.value(source, part), *pool, constants, grad(part), target(part)
            )
        ]
        return steps + self._add(source, target, grads, memory)

    def _add(self, value: int, grad: Place, grads: dict[int, Place], memory: _Memory) -> list[OfPart]:
        """Return what adds a part of a gradient to the others, if there are some."""
        if value not in grads:
            grads[value] = grad
            return []
        before, total = grads[value], memory.grad(value, 2)
        grads[value] = total
        return [lambda part: partial(torch.add, before(part), grad(part), out=total(part))]
