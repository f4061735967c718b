"""Convolutions of members side by side, one in each lane of a vector; see csrc/lanes_convolution.hpp.

Images are [N, H, W, C, lanes], weights [kernel, kernel, C, O, lanes], float32 and contiguous.
"""

from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


def lanes_of_members() -> int:
    """Return how many members lie side by side: the floats in a register of the instruction set in use."""
    return int(_core.lanes_of_members())


@kernel("cpu", "lanes_convolution")
def convolve(images: Tensor, weights: Tensor, stride: int, padding: int, output: Tensor) -> None:
    """Write the convolution of images with 1x1 or 3x3 weights to ``output`` [N, h, w, O, lanes]."""
    _core.lanes_convolution(to_dlpack(images), to_dlpack(weights), stride, padding, to_dlpack(output))


@kernel("cpu", "lanes_convolution_images_gradient")
def convolve_back(grad: Tensor, weights: Tensor, stride: int, padding: int, grad_images: Tensor) -> None:
    """Write the gradients of the images from those of the output."""
    _core.lanes_convolution_images_gradient(
        to_dlpack(grad), to_dlpack(weights), stride, padding, to_dlpack(grad_images)
    )


@kernel("cpu", "lanes_convolution_weights_gradient")
def add_weight_gradients(
    images: Tensor, grad: Tensor, stride: int, padding: int, grad_weights: Tensor
) -> None:
    """Add the gradients of the weights, from the images and the gradients of the output."""
    _core.lanes_convolution_weights_gradient(
        to_dlpack(images), to_dlpack(grad), stride, padding, to_dlpack(grad_weights)
    )
