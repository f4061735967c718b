"""Where members lie side by side, in vectors or on a device, and how weights and batches get there."""

from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pythermo import _core
from pythermo.ops._lanes import DEVICE_LANES
from pythermo.ops.lanes_convolution import lanes_of_members
from pythermo.training.program import Program

_CPU = torch.device("cpu")

# Bytes in a line of the caches: a vector that lies in two of them takes twice as long to load.
_LINE = 64


def aligned_empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor, not yet written, that begins at a line of the caches; numpy asks for huge pages."""
    size = torch.empty(0, dtype=dtype).element_size()
    memory = np.empty(prod(shape) * size + _LINE, dtype=np.uint8)
    begin = -memory.ctypes.data % _LINE
    return torch.from_numpy(memory[begin : begin + prod(shape) * size]).view(dtype).reshape(shape)


@dataclass(frozen=True)
class Layout:
    """Where members lie: in the lanes of one vector or, on a device, in groups of 32, one after the other."""

    lanes: int
    groups: int | None = None  # None: a vector alone, whose tensors have no dimension of groups
    device: torch.device = _CPU

    @classmethod
    def of_vector(cls) -> Self:
        """Return that of the vectors of the instruction set in use."""
        return cls(lanes_of_members())

    @classmethod
    def on_device(cls, members: int, device: torch.device) -> Self:
        """Return that of so many members on a CUDA device."""
        return cls(DEVICE_LANES, -(-members // DEVICE_LANES), device)

    @property
    def members(self) -> int:
        """How many there is room for."""
        return self.lanes * (self.groups or 1)

    @property
    def on_a_device(self) -> bool:
        """Whether members lie in groups; else a batch is gone through in parts that stay in the cache."""
        return self.groups is not None

    @property
    def instruction_set(self) -> str:
        """What a member's bits depend on, beside itself: the CPU's, or the kind of the device."""
        if self.device.type == "cpu":
            return _core.chosen_instruction_set()
        major, minor = torch.cuda.get_device_capability(self.device)
        return f"CUDA {major}.{minor}"

    def shape(self, *inner: int) -> tuple[int, ...]:
        """Return the shape of a tensor that has numbers [*inner] of each member."""
        outer = () if self.groups is None else (self.groups,)
        return *outer, *inner, self.lanes

    def empty(self, *inner: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return such a tensor, not yet written."""
        if self.groups is None:
            return aligned_empty(*self.shape(*inner), dtype=dtype)
        return torch.empty(self.shape(*inner), dtype=dtype, device=self.device)

    def flat(self, each: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return memory, not yet written, for so many numbers of each member."""
        return self.empty(each, dtype=dtype).view(-1)

    def filled(self, of_members: Tensor) -> Tensor:
        """Return a tensor [members, ...] for all there is room for: the others get the last one's."""
        if len(of_members) == self.members:
            return of_members
        places = torch.arange(self.members, device=of_members.device).clamp(max=len(of_members) - 1)
        return of_members[places]

    def side_by_side(self, of_members: Tensor) -> Tensor:
        """Return a tensor [members, size] as it lies here, [..., size, lanes]."""
        filled = self.filled(of_members)
        return filled.view(*self.shape()[:-1], self.lanes, -1).transpose(-1, -2).contiguous()

    def apart(self, side_by_side: Tensor) -> Tensor:
        """Return what lies here [..., size, lanes] as [members, size], of all there is room for."""
        return side_by_side.transpose(-1, -2).reshape(self.members, -1)


class Weights:
    """Weights or gradients of members side by side, [..., D, lanes], and the views that convolutions take.

    Outside they are [members, D], each member's in the order of the module's parameters,
    [O, C, kernel, kernel]; here a convolution's are [..., kernel, kernel, C, O, lanes]. This is the one place
    where they change places.
    """

    def __init__(self, program: Program, layout: Layout) -> None:
        self._layout = layout
        self.flat = layout.empty(program.dim).zero_()
        places = torch.arange(program.dim)
        order, self._taps, begin = [], [], 0
        for outputs, channels, height, width in program.weights:
            end = begin + outputs * channels * height * width
            own = places[begin:end].reshape(outputs, channels, height, width)
            order.append(own.permute(2, 3, 1, 0).flatten())
            self._taps.append((slice(begin, end), (height, width, channels, outputs)))
            begin = end
        self._order = torch.cat(order).to(layout.device)

    def of_layer(self, number: int) -> Tensor:
        """Return the view of a convolution's weights."""
        places, shape = self._taps[number]
        return self.flat[..., places, :].view(self._layout.shape(*shape))

    def placed(self, weights: Tensor) -> Tensor:
        """Return weights [members, D] as they lie here; lanes without a member get those of the last one."""
        return self._layout.side_by_side(weights.to(self.flat.device)[:, self._order])

    def set(self, weights: Tensor) -> None:
        """Take the weights [members, D]; lanes without a member get those of the last one."""
        self.flat.copy_(self.placed(weights))

    def get(self, members: int) -> Tensor:
        """Return a copy of those of the first members, [members, D]."""
        weights = self.flat.new_empty(members, len(self._order))
        weights[:, self._order] = self._layout.apart(self.flat)[:members]
        return weights


def as_samples(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] as a batch of members takes them: [N, H * W * C]."""
    return images.permute(0, 2, 3, 1).flatten(1).contiguous()


@dataclass(frozen=True)
class Batch:
    """Images and labels of members side by side, each with its own.

    ``samples`` [N, height * width * channels] float32 are what the ``indices`` [members, B] choose from;
    ``labels`` are [..., B, lanes].
    """

    samples: Tensor
    indices: Tensor
    labels: Tensor

    @classmethod
    def of_members(cls, layout: Layout, samples: Tensor, indices: Tensor, labels: Tensor) -> Self:
        """Return the batch of members [members, B]; lanes without a member get that of the last one."""
        return cls(samples, layout.filled(indices), layout.side_by_side(labels))

    def __len__(self) -> int:
        return self.labels.shape[-2]
