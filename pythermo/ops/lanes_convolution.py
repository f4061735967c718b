"""Convolutions of members side by side, one in each lane of a vector; see csrc/lanes_convolution.hpp.

Images are [N, H, W, C, lanes], weights [kernel, kernel, C, O, lanes], float32 and contiguous; on a device
both have a first dimension of groups.
"""

from typing import Any

from torch import Tensor

from pythermo import _core
from pythermo.ops._lanes import lane_kernel


def lanes_of_members() -> int:
    """Return how many members lie side by side: the floats in a register of the instruction set in use."""
    return int(_core.lanes_of_members())


@lane_kernel("lanes_convolution")
def convolve(images: Tensor, weights: Tensor, stride: int, padding: int, output: Tensor) -> tuple[Any, ...]:
    """Write the convolution of images with 1x1 or 3x3 weights to ``output`` [N, h, w, O, lanes]."""
    return images, weights, stride, padding, output


@lane_kernel("lanes_convolution_images_gradient")
def convolve_back(
    grad: Tensor, weights: Tensor, stride: int, padding: int, grad_images: Tensor
) -> tuple[Any, ...]:
    """Write the gradients of the images from those of the output."""
    return grad, weights, stride, padding, grad_images


@lane_kernel("lanes_convolution_weights_gradient", "lanes_weights_gradient_workspace_size", 5)
def add_weight_gradients(
    images: Tensor, grad: Tensor, stride: int, padding: int, grad_weights: Tensor
) -> tuple[Any, ...]:
    """Add the gradients of the weights, from the images and the gradients of the output."""
    return images, grad, stride, padding, grad_weights
