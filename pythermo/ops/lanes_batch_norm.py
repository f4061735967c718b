"""Normalization, pooling and ReLU of members side by side, in parts; see csrc/lanes_batch_norm.hpp.

Images are [N, H, W, C, lanes], outputs [N, H // pool, W // pool, C, lanes], float32; ``sums`` [2 * C * lanes]
float64, ``constants`` [4 * C * lanes] float32. A batch is gone through a few images at a time.
"""

from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


@kernel("cpu", "lanes_moments")
def add_moments(x: Tensor, batch: Tensor, sums: Tensor) -> None:
    """Add images, less the first pixel of the whole batch, and their squares to the sums."""
    _core.lanes_moments(to_dlpack(x), to_dlpack(batch), to_dlpack(sums))


@kernel("cpu", "lanes_statistics")
def write_statistics(sums: Tensor, batch: Tensor, eps: float, constants: Tensor) -> None:
    """Write mean and 1 / deviation of each channel of the batch, the first half of the constants."""
    _core.lanes_statistics(to_dlpack(sums), to_dlpack(batch), eps, to_dlpack(constants))


@kernel("cpu", "lanes_normalization")
def normalize(x: Tensor, pool: int, rectify: bool, constants: Tensor, output: Tensor) -> None:
    """Write images normalized, their largest of pool x pool pixels and, to rectify them, ReLU."""
    _core.lanes_normalization(to_dlpack(x), pool, rectify, to_dlpack(constants), to_dlpack(output))


@kernel("cpu", "lanes_gradient_moments")
def add_gradient_moments(output: Tensor, rectify: bool, grad: Tensor, sums: Tensor) -> None:
    """Add the gradients of outputs, and their products with the outputs, to the sums."""
    _core.lanes_gradient_moments(to_dlpack(output), rectify, to_dlpack(grad), to_dlpack(sums))


@kernel("cpu", "lanes_gradient_statistics")
def write_gradient_statistics(sums: Tensor, batch: Tensor, constants: Tensor) -> None:
    """Write the means of what was added, the second half of the constants."""
    _core.lanes_gradient_statistics(to_dlpack(sums), to_dlpack(batch), to_dlpack(constants))


@kernel("cpu", "lanes_normalization_backward")
def normalize_back(
    x: Tensor, pool: int, rectify: bool, constants: Tensor, grad: Tensor, grad_x: Tensor
) -> None:
    """Write the gradients of images, which may take their place, from those of their outputs."""
    arrays = [to_dlpack(one) for one in (constants, grad, grad_x)]
    _core.lanes_normalization_backward(to_dlpack(x), pool, rectify, *arrays)
