"""What of torch's global state a run sets for its own time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible_kernels() -> Iterator[None]:
    """Let cuDNN take algorithms that give the same bits each time, in full float32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch work on one thread, as a run of a sweep does: a second gains nothing on small networks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
