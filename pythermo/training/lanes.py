"""Members of an ensemble that lie in the lanes of one vector: their forward and backward pass, and step."""

from dataclasses import dataclass, field
from math import prod

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
from pythermo.training.program import BatchNorm, Convolution, Layer, Program, Sum

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


@dataclass
class Pass:
    """What one batch gave to the members of a vector."""

    losses: Tensor  # [lanes] float64
    hits: Tensor  # [lanes] int64


@dataclass
class _Buffers:
    """The values of a program for batches of one size, and their gradients."""

    images: int
    values: list[Tensor] = field(default_factory=list)
    statistics: dict[int, Tensor] = field(default_factory=dict)
    grads: dict[int, Tensor] = field(default_factory=dict)

    def grad_like(self, value: int, use: int = 0) -> Tensor:
        """Return memory for a gradient of a value, the same in each pass; ``use`` tells several apart."""
        key = value + use * len(self.values)
        if key not in self.grads:
            self.grads[key] = aligned_empty(*self.values[value].shape)
        return self.grads[key]


class LaneNetwork:
    """A program with the weights of as many members as a vector has lanes."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.weights, self.grad = Weights(program), Weights(program)
        self._buffers: dict[int, _Buffers] = {}
        users = [layer.source for layer in program.layers]
        users += [layer.other for layer in program.layers if isinstance(layer, Sum)] + [program.head.source]
        self._used_once = {value for value in range(len(program.shapes)) if users.count(value) == 1}

    def images(self, count: int) -> Tensor:
        """Return where a batch of images is to be written, [count, height, width, channels, lanes]."""
        return self._of_size(count).values[0]

    def losses(self, labels: Tensor, squared_error: bool) -> Pass:
        """Return the losses of the images that were written, with labels [N, lanes]."""
        return self._forward(labels, squared_error, torch.empty(0))

    def losses_and_gradient(self, labels: Tensor, squared_error: bool) -> Pass:
        """Return the same, and write the weights' gradients to `grad`."""
        buffers = self._of_size(len(labels))
        last = self.program.head.source
        result = self._forward(labels, squared_error, buffers.grad_like(last).view(-1))
        self.grad.flat.zero_()
        found = {last: buffers.grad_like(last)}
        for value in range(len(self.program.layers), 0, -1):
            self._back(self.program.layers[value - 1], value, found, buffers)
        return result

    def _of_size(self, images: int) -> _Buffers:
        if images not in self._buffers:
            lanes = lanes_of_members()
            buffers = _Buffers(images)
            for channels, height, width in self.program.shapes:
                buffers.values.append(aligned_empty(images, height, width, channels, lanes))
            for value, layer in enumerate(self.program.layers, start=1):
                if isinstance(layer, BatchNorm):
                    channels = self.program.shapes[value][0]
                    buffers.statistics[value] = aligned_empty(2 * channels * lanes)
            self._buffers = {images: buffers}  # those of another size are given up
        return self._buffers[images]

    def _forward(self, labels: Tensor, squared_error: bool, grad: Tensor) -> Pass:
        buffers, head, lanes = self._of_size(len(labels)), self.program.head, lanes_of_members()
        for value, layer in enumerate(self.program.layers, start=1):
            source, output = buffers.values[layer.source], buffers.values[value]
            if isinstance(layer, Convolution):
                weights = self.weights.of_layer[layer.weights]
                convolve(source, weights, layer.stride, layer.padding, output)
            elif isinstance(layer, BatchNorm):
                statistics = buffers.statistics[value]
                normalize(source, layer.pool, layer.rectify, layer.eps, output, statistics)
            else:
                torch.add(source, buffers.values[layer.other], out=output)
        result = Pass(torch.empty(lanes, dtype=torch.float64), torch.empty(lanes, dtype=torch.int64))
        head_losses(
            buffers.values[head.source].flatten(1, 2),
            head.weights,
            head.bias,
            labels,
            largest=head.largest,
            squared_error=squared_error,
            losses=result.losses,
            hits=result.hits,
            grad=grad,
        )
        return result

    def _back(self, layer: Layer, value: int, found: dict[int, Tensor], buffers: _Buffers) -> None:
        """Bring the gradient of a value, of which all is found, to what its layer came from."""
        grad, source = found[value], layer.source
        if isinstance(layer, Sum):
            for one in (source, layer.other):
                self._add(one, grad, found, buffers)
        elif isinstance(layer, Convolution):
            weights, own = self.weights.of_layer[layer.weights], self.grad.of_layer[layer.weights]
            add_weight_gradients(buffers.values[source], grad, layer.stride, layer.padding, own)
            if source > 0:
                target = buffers.grad_like(source, use=1 if source in found else 0)
                convolve_back(grad, weights, layer.stride, layer.padding, target)
                self._add(source, target, found, buffers)
        else:
            x, output = buffers.values[source], buffers.values[value]
            # Nothing else needs what was normalized: its gradient takes the place.
            alone = source in self._used_once and source > 0
            target = x if alone else buffers.grad_like(source, use=1 if source in found else 0)
            statistics = buffers.statistics[value]
            normalize_back(x, layer.pool, layer.rectify, output, statistics, grad, target)
            self._add(source, target, found, buffers)

    def _add(self, value: int, grad: Tensor, found: dict[int, Tensor], buffers: _Buffers) -> None:
        if value in found:
            found[value] = torch.add(found[value], grad, out=buffers.grad_like(value, use=2))
        else:
            found[value] = grad
