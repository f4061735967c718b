"""How kernels of members side by side are called, on the CPU and on CUDA devices.

On the CPU the members of one vector lie in the last dimension, as many as the instruction set has lanes; on a
device 32 of them, and tensors have a first dimension more, of groups of members.
"""

from typing import Any

import torch

from pythermo import _core
from pythermo.ops._backends import CUDA, capsules, kernel, kernel_for, stream_of

# How many members lie side by side on a device: the threads of a warp.
DEVICE_LANES = 32


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

    @kernel("cpu", name)
    def _(*arguments: Any) -> None:
        getattr(_core, name)(*capsules(*arguments))

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
