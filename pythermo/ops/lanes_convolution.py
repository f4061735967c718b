"""Convolutions of members side by side, one in each lane of a vector; see csrc/lanes_convolution.hpp.

Images are [N, H, W, C, lanes], weights [kernel, kernel, C, O, lanes], float32 and contiguous; on a device
both have a first dimension of groups.
"""

from torch import Tensor

from pythermo import _core
from pythermo.ops._lanes import call, register

register("lanes_convolution")
register("lanes_convolution_images_gradient")
register("lanes_convolution_weights_gradient", "lanes_weights_gradient_workspace_size", 5)


def lanes_of_members() -> int:
    """Return how many members lie side by side: the floats in a register of the instruction set in use."""
    return int(_core.lanes_of_members())


def convolve(images: Tensor, weights: Tensor, stride: int, padding: int, output: Tensor) -> None:
    """Write the convolution of images with 1x1 or 3x3 weights to ``output`` [N, h, w, O, lanes]."""
    call("lanes_convolution", images, weights, stride, padding, output)


def convolve_back(grad: Tensor, weights: Tensor, stride: int, padding: int, grad_images: Tensor) -> None:
    """Write the gradients of the images from those of the output."""
    call("lanes_convolution_images_gradient", grad, weights, stride, padding, grad_images)


def add_weight_gradients(
    images: Tensor, grad: Tensor, stride: int, padding: int, grad_weights: Tensor
) -> None:
    """Add the gradients of the weights, from the images and the gradients of the output."""
    call("lanes_convolution_weights_gradient", images, grad, stride, padding, grad_weights)
