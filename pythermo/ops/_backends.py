"""Which code runs on a tensor: a table of kernels by the type of its device, and how CUDA's are launched."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.dlpack

from pythermo import _core

Kernel = Callable[..., Any]

# A forked process has none of the threads that OpenMP counts on, and would wait for them for ever.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

# By the type of a device and the kernel's name. The file of a kernel adds what runs on each device.
KERNELS: dict[tuple[str, str], Kernel] = {}


def kernel(device_type: str, name: str) -> Callable[[Kernel], Kernel]:
    """Register a function as the kernel of a name on devices of a type."""

    def register(function: Kernel) -> Kernel:
        KERNELS[device_type, name] = function
        return function

    return register


def has_kernel(name: str, tensor: torch.Tensor) -> bool:
    """Return whether there is a kernel of this name where a tensor lies."""
    return _is_there(tensor.device.type, name)


def kernel_for(name: str, argument: str, tensor: torch.Tensor) -> Kernel:
    """Return the kernel of a name for a tensor's device, or raise ValueError naming the argument."""
    device_type = "cpu" if tensor.is_cpu else tensor.device.type
    found = KERNELS.get((device_type, name))
    if found is not None and (device_type != "cuda" or CUDA.native is not None):
        return found
    why = " (built without CUDA)" if device_type == "cuda" and CUDA.native is None else ""
    others = [where for where, own in KERNELS if own == name and _is_there(where, name)]
    raise ValueError(
        f"{argument}: no kernel for the device {tensor.device}{why}; there are some for {', '.join(others)}"
    )


def _is_there(device_type: str, name: str) -> bool:
    return (device_type, name) in KERNELS and (device_type != "cuda" or CUDA.native is not None)


# The capsule of a tensor, without the seven-fold overhead of Tensor.__dlpack__.
to_dlpack = torch.utils.dlpack.to_dlpack  # type: ignore[attr-defined]


def capsules(*arguments: Any) -> list[Any]:
    """Return arguments as native code takes them: tensors as DLPack capsules, others as they are."""
    return [to_dlpack(one) if isinstance(one, torch.Tensor) else one for one in arguments]


@dataclass
class CudaLaunch:
    """How CUDA's kernels are launched; results do not depend on it."""

    native: Any  # the module that has them; None where it was not built
    threads: int = 256  # of a block
    step_threads: int = 512
    workspace_bytes: int = 2**28  # for the squared distances that are kept at once, if 64 rows fit
    longest_sorted: int = 2048  # rows of so many squared distances are sorted as a whole
    sphere_threads: int = 128
    sphere_work: int = 2**17  # gradients of samples that a chain computes in one launch: some 0.1 s


CUDA = CudaLaunch(getattr(_core, "cuda", None))


def stream_of(tensor: torch.Tensor) -> int:
    """Return the address of the stream that torch works on where a tensor lies."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0


_workspaces: dict[tuple[str, torch.device, int], torch.Tensor] = {}


def workspace(use: str, size: int, tensor: torch.Tensor) -> torch.Tensor:
    """Return float64 numbers beside a tensor, which launches for one use share on each stream."""
    return _shared_on_a_stream(
        use, tensor, lambda device: torch.empty(size, dtype=torch.float64, device=device)
    )


def counter(use: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a number [1] beside a tensor for launches to count with; it is 0 between them."""
    return _shared_on_a_stream(use, tensor, lambda device: torch.zeros(1, dtype=torch.int64, device=device))


def _shared_on_a_stream(
    use: str, tensor: torch.Tensor, make: Callable[[torch.device], torch.Tensor]
) -> torch.Tensor:
    if _is_capturing(tensor.device):
        return make(tensor.device)  # the graph's own
    key = (use, tensor.device, stream_of(tensor))
    if key not in _workspaces:
        _workspaces[key] = make(tensor.device)
    return _workspaces[key]


_status_words: dict[torch.device, torch.Tensor] = {}


def status_word(device: torch.device) -> torch.Tensor:
    """Return the word [1] in which steps on a device leave what went wrong; 0 if nothing has."""
    if device not in _status_words:
        if _is_capturing(device):
            raise RuntimeError("a CUDA graph captures steps only after one was made outside of it")
        _status_words[device] = torch.zeros(1, dtype=torch.int64, device=device)
    return _status_words[device]


def take_status(device: torch.device) -> int:
    """Wait for the steps on a device, on all of its streams; return what they left, and set it back to 0."""
    if device not in _status_words:
        return 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    code = int(_status_words[device])
    if code != 0:
        _status_words[device].zero_()
    return code


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
