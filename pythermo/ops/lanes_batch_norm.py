"""Normalization, pooling and ReLU of members side by side, in parts; see csrc/lanes_batch_norm.hpp.

Images are [N, H, W, C, lanes], outputs [N, H // pool, W // pool, C, lanes], float32; ``sums`` [2 * C * lanes]
float64, ``constants`` [4 * C * lanes] float32. A batch may be gone through a few images at a time. On a
device images and outputs have a first dimension of groups, and sums and constants are those of all groups.
"""

from torch import Tensor

from pythermo.ops._lanes import call, register

register("lanes_moments", "lanes_moments_workspace_size")
register("lanes_statistics")
register("lanes_normalization")
register("lanes_gradient_moments", "lanes_moments_workspace_size")
register("lanes_gradient_statistics")
register("lanes_normalization_backward")


def add_moments(x: Tensor, batch: Tensor, sums: Tensor) -> None:
    """Add images, less the first pixel of the whole batch, and their squares to the sums."""
    call("lanes_moments", x, batch, sums)


def write_statistics(sums: Tensor, batch: Tensor, eps: float, constants: Tensor) -> None:
    """Write mean and 1 / deviation of each channel of the batch, the first half of the constants."""
    call("lanes_statistics", sums, batch, eps, constants)


def normalize(x: Tensor, pool: int, rectify: bool, constants: Tensor, output: Tensor) -> None:
    """Write images normalized, their largest of pool x pool pixels and, to rectify them, ReLU."""
    call("lanes_normalization", x, pool, rectify, constants, output)


def add_gradient_moments(output: Tensor, rectify: bool, grad: Tensor, sums: Tensor) -> None:
    """Add the gradients of outputs, and their products with the outputs, to the sums."""
    call("lanes_gradient_moments", output, rectify, grad, sums)


def write_gradient_statistics(sums: Tensor, batch: Tensor, constants: Tensor) -> None:
    """Write the means of what was added, the second half of the constants."""
    call("lanes_gradient_statistics", sums, batch, constants)


def normalize_back(
    x: Tensor, pool: int, rectify: bool, constants: Tensor, grad: Tensor, grad_x: Tensor
) -> None:
    """Write the gradients of images, which may take their place, from those of their outputs."""
    call("lanes_normalization_backward", x, pool, rectify, constants, grad, grad_x)
