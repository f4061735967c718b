"""Normalization, pooling and ReLU of members side by side, in parts; see csrc/lanes_batch_norm.hpp.

Images are [N, H, W, C, lanes], outputs [N, H // pool, W // pool, C, lanes], float32; ``sums`` [2 * C * lanes]
float64, ``constants`` [4 * C * lanes] float32. A batch may be gone through a few images at a time. On a
device images and outputs have a first dimension of groups, and sums and constants are those of all groups.
"""

from typing import Any

from torch import Tensor

from pythermo.ops._lanes import lane_kernel


@lane_kernel("lanes_moments", "lanes_moments_workspace_size")
def add_moments(x: Tensor, batch: Tensor, sums: Tensor) -> tuple[Any, ...]:
    """Add images, less the first pixel of the whole batch, and their squares to the sums."""
    return x, batch, sums


@lane_kernel("lanes_statistics")
def write_statistics(sums: Tensor, batch: Tensor, eps: float, constants: Tensor) -> tuple[Any, ...]:
    """Write mean and 1 / deviation of each channel of the batch, the first half of the constants."""
    return sums, batch, eps, constants


@lane_kernel("lanes_normalization")
def normalize(x: Tensor, pool: int, rectify: bool, constants: Tensor, output: Tensor) -> tuple[Any, ...]:
    """Write images normalized, their largest of pool x pool pixels and, to rectify them, ReLU."""
    return x, pool, rectify, constants, output


@lane_kernel("lanes_gradient_moments", "lanes_moments_workspace_size")
def add_gradient_moments(output: Tensor, rectify: bool, grad: Tensor, sums: Tensor) -> tuple[Any, ...]:
    """Add the gradients of outputs, and their products with the outputs, to the sums."""
    return output, rectify, grad, sums


@lane_kernel("lanes_gradient_statistics")
def write_gradient_statistics(sums: Tensor, batch: Tensor, constants: Tensor) -> tuple[Any, ...]:
    """Write the means of what was added, the second half of the constants."""
    return sums, batch, constants


@lane_kernel("lanes_normalization_backward")
def normalize_back(
    x: Tensor, pool: int, rectify: bool, constants: Tensor, grad: Tensor, grad_x: Tensor
) -> tuple[Any, ...]:
    """Write the gradients of images, which may take their place, from those of their outputs."""
    return x, pool, rectify, constants, grad, grad_x
