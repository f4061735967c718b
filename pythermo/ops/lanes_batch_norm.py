"""Normalization, pooling and ReLU of members side by side; see csrc/lanes_batch_norm.hpp.

Images are [N, H, W, C, lanes], statistics [2 * C * lanes], float32 and contiguous.
"""

from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


@kernel("cpu", "lanes_batch_norm")
def normalize(x: Tensor, pool: int, rectify: bool, eps: float, output: Tensor, statistics: Tensor) -> None:
    """Write ``output`` [N, H // pool, W // pool, C, lanes], with ReLU or without, and the statistics."""
    _core.lanes_batch_norm(to_dlpack(x), pool, rectify, eps, to_dlpack(output), to_dlpack(statistics))


@kernel("cpu", "lanes_batch_norm_backward")
def normalize_back(
    x: Tensor, pool: int, rectify: bool, output: Tensor, statistics: Tensor, grad: Tensor, grad_x: Tensor
) -> None:
    """Write the gradients of the images, which may take their place, from those of the output."""
    arrays = [to_dlpack(one) for one in (output, statistics, grad, grad_x)]
    _core.lanes_batch_norm_backward(to_dlpack(x), pool, rectify, *arrays)
