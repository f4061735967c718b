"""How kernels of members side by side are called, on the CPU and on CUDA devices.

On the CPU the members of one vector lie in the last dimension, as many as the instruction set has lanes; on a
device 32 of them, and tensors have a first dimension more, of groups of members.
"""

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec

import torch

from pythermo import _core
from pythermo.ops._backends import CUDA, capsules, kernel, kernel_for, stream_of

# How many members lie side by side on a device: the threads of a warp.
DEVICE_LANES = 32


_Arguments = ParamSpec("_Arguments")


class _OnCpu:
    """A native function on the CPU."""

    def __init__(self, name: str) -> None:
        self._native = getattr(_core, name)

    def __call__(self, *arguments: Any) -> None:
        self._native(*capsules(*arguments))

    def prepared(self, *arguments: Any) -> Callable[[], object]:
        """Return a call that takes a tenth of the time: its capsules keep the tensors."""
        return partial(self._native, *capsules(*arguments))


class LaneKernel(Generic[_Arguments]):
    """A kernel as a function of Python, which is called where its first argument lies."""

    def __init__(self, name: str, native_arguments: Callable[_Arguments, tuple[Any, ...]]) -> None:
        self._name, self._native_arguments = name, native_arguments
        update_wrapper(self, native_arguments)

    def __call__(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        """Call it."""
        call(self._name, *self._native_arguments(*args, **kwargs))

    def prepared(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Callable[[], object]:
        """Return the call with these arguments, to be made again and again."""
        arguments = self._native_arguments(*args, **kwargs)
        found = kernel_for(self._name, "device", arguments[0])
        return found.prepared(*arguments) if isinstance(found, _OnCpu) else partial(found, *arguments)


def lane_kernel(
    name: str, room: str | None = None, room_arguments: int = 1
) -> Callable[[Callable[_Arguments, tuple[Any, ...]]], LaneKernel[_Arguments]]:
    """Make a kernel of a function that returns the native one's arguments, and `register` it."""
    register(name, room, room_arguments)
    return partial(LaneKernel, name)


def register(name: str, room: str | None = None, room_arguments: int = 1) -> None:
    """Enter a native function into the table of kernels, for both kinds of devices.

    Parameters
    ----------
    name : str
        Of the function. Its arguments are the same on both, but that a device's takes a
        workspace, if so, and the stream besides.
    room : str, optional
        The native function that says, by the first ``room_arguments`` arguments, how many float64 numbers of
        workspace it takes.
    """
    kernel("cpu", name)(_OnCpu(name))

    @kernel("cuda", name)
    def _(*arguments: Any) -> None:
        with torch.cuda.device_of(arguments[0]):
            given = list(arguments)
            if room is not None:
                size = getattr(CUDA.native, room)(*capsules(*arguments[:room_arguments]))
                given.append(arguments[0].new_empty(size, dtype=torch.float64))
            getattr(CUDA.native, name)(*capsules(*given), stream_of(arguments[0]))


def call(name: str, *arguments: Any) -> None:
    """Call the kernel of a name where the first argument lies."""
    kernel_for(name, "device", arguments[0])(*arguments)
