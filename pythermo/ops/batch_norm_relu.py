"""Batch normalization, max pooling and ReLU as one operation on images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pythermo import _core
from pythermo._checks import as_tensor_to_read, is_float, like_input, require_positive
from pythermo.ops._backends import CUDA, KERNELS, has_kernel, kernel, stream_of, to_dlpack


@kernel("cpu", "batch_norm_relu")
def _(x: Tensor, *arguments: Any) -> None:
    _core.batch_norm_relu(*_forward_arguments(x, *arguments), torch.get_num_threads())


@kernel("cpu", "batch_norm_relu_backward")
def _(x: Tensor, *arguments: Any) -> None:
    _core.batch_norm_relu_backward(*_backward_arguments(x, *arguments), torch.get_num_threads())


@kernel("cuda", "batch_norm_relu")
def _(x: Tensor, *arguments: Any) -> None:
    with torch.cuda.device_of(x):
        CUDA.native.batch_norm_relu(*_forward_arguments(x, *arguments), _workspace(x), stream_of(x))


@kernel("cuda", "batch_norm_relu_backward")
def _(x: Tensor, *arguments: Any) -> None:
    with torch.cuda.device_of(x):
        CUDA.native.batch_norm_relu_backward(*_backward_arguments(x, *arguments), _workspace(x), stream_of(x))


def _forward_arguments(x: Tensor, pool: int, eps: float, output: Tensor, statistics: Tensor) -> list[Any]:
    return [_rows(x), x.shape[3], pool, True, eps, _rows(output), to_dlpack(statistics)]


def _backward_arguments(
    x: Tensor, pool: int, output: Tensor, statistics: Tensor, grad: Tensor, grad_x: Tensor
) -> list[Any]:
    images = [_rows(x), x.shape[3], pool, True, _rows(output), to_dlpack(statistics)]
    return [*images, _rows(grad), _rows(grad_x)]


def batch_norm_relu(x: Any, pool: int = 1, eps: float = 1e-12) -> Any:
    """Normalize channels by their batch's statistics, take the largest of pool x pool pixels, and ReLU.

    Parameters
    ----------
    x : Tensor or array [N, C, H, W]
        Images of any floating dtype and on any device. Those that are not laid out as
        `torch.channels_last` are copied.
    pool : int
        1, or 2 for the largest of each 2x2 pixels; a last row or column that has no partner is left out,
        but has its part in the statistics.
    eps : float
        Added to the variances; positive.

    Returns
    -------
    Tensor or array [N, C, H // pool, W // pool]
        Laid out as `torch.channels_last`. NaN in each channel that is not finite, or whose variance is not.

    Raises
    ------
    ValueError, TypeError
        For another shape or dtype, fewer than two pixels a channel, another pool or eps.

    Notes
    -----
    The function is that of torch's `batch_norm` without trained parameters, `max_pool2d` and `relu`, which do
    the work except for float32 and float64 outside of `torch.compile`. There one kernel on the CPU, three on
    CUDA, read the images twice for the outputs and once for the gradients, with sums in float64, to the same
    bits for any number of threads. Derivatives of any order exist; all beside the plain gradient are torch's.
    Source: Ioffe and Szegedy, arXiv 1502.03167.

    Examples
    --------
    >>> import torch
    >>> batch_norm_relu(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2), pool=2).shape
    torch.Size([1, 1, 1, 1])
    """
    images, eps = as_tensor_to_read("x", x), require_positive("eps", eps)
    if not isinstance(pool, int | np.integer) or pool not in (1, 2):
        raise ValueError(f"pool: must be 1 or 2, not {pool}")
    pool = int(pool)
    _require(images, pool)
    in_table = has_kernel("batch_norm_relu", images) and is_float(images.dtype)
    if in_table and not torch.compiler.is_compiling():
        return like_input(_BatchNormReLU.apply(images, pool, eps)[0], x)
    return like_input(batch_norm_relu_by_torch(images, pool, eps), x)


def _require(x: Tensor, pool: int) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x: the dtype must be a floating one, not {x.dtype}")
    if x.ndim != 4 or min(x.shape[1], *(side // pool for side in x.shape[2:])) < 1:
        raise ValueError(
            f"x: must be images [N, C, H, W] with C >= 1 and H, W >= {pool}, not {list(x.shape)}"
        )
    if x.shape[0] * x.shape[2] * x.shape[3] < 2:
        raise ValueError(f"x: must have at least two pixels in each channel, not {list(x.shape)}")


def batch_norm_relu_by_torch(x: Tensor, pool: int, eps: float) -> Tensor:
    """Return the same by torch's three operations; ReLU comes last, where there are fewer pixels."""
    normalized = functional.batch_norm(x, None, None, training=True, eps=eps)
    return functional.relu(functional.max_pool2d(normalized, pool) if pool > 1 else normalized)


_DEVICES = ("cpu", "cuda")


@torch.library.custom_op("pythermo::batch_norm_relu", mutates_args=(), device_types=_DEVICES)
def _batch_norm_relu(x: Tensor, pool: int, eps: float) -> tuple[Tensor, Tensor]:
    output, statistics = _pooled(x, pool), x.new_empty(2 * x.shape[1])
    KERNELS[x.device.type, "batch_norm_relu"](x, pool, eps, output, statistics)
    return output, statistics


@_batch_norm_relu.register_fake
def _(x: Tensor, pool: int, eps: float) -> tuple[Tensor, Tensor]:
    return _pooled(x, pool), x.new_empty(2 * x.shape[1])


@torch.library.custom_op("pythermo::batch_norm_relu_backward", mutates_args=(), device_types=_DEVICES)
def _batch_norm_relu_backward(
    x: Tensor, pool: int, output: Tensor, statistics: Tensor, grad: Tensor
) -> Tensor:
    grad_x = _pooled(x, 1)
    KERNELS[x.device.type, "batch_norm_relu_backward"](x, pool, output, statistics, grad, grad_x)
    return grad_x


@_batch_norm_relu_backward.register_fake
def _(x: Tensor, pool: int, output: Tensor, statistics: Tensor, grad: Tensor) -> Tensor:
    return _pooled(x, 1)


class _BatchNormReLU(torch.autograd.Function):
    """The kernels with their derivatives; those beside the plain gradient are of torch's operations."""

    @staticmethod
    def forward(x: Tensor, pool: int, eps: float) -> tuple[Tensor, Tensor]:
        output, statistics = _batch_norm_relu(x, pool, eps)
        return output, statistics

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.pool, ctx.eps = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, *output)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        x, output, statistics = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated itself
            pull_back = torch.func.vjp(lambda x: batch_norm_relu_by_torch(x, ctx.pool, ctx.eps), x)[1]
            return pull_back(grad)[0], None, None
        return _batch_norm_relu_backward(x, ctx.pool, output, statistics, grad), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        normalized = (x - mean) * (variance + ctx.eps).rsqrt()
        along = tangent - tangent.mean((0, 2, 3), keepdim=True)
        along = along - normalized * (along * normalized).mean((0, 2, 3), keepdim=True)
        along = along * (variance + ctx.eps).rsqrt()
        if ctx.pool > 1:
            normalized, which = functional.max_pool2d(normalized, ctx.pool, return_indices=True)
            along = along.flatten(2).gather(2, which.flatten(2)).view_as(normalized)
        passed = along * (normalized > 0)
        return passed.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), None  # laid out as the outputs

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int, None, None], x: Tensor, pool: int, eps: float) -> Any:
        parts = [_BatchNormReLU.apply(part, pool, eps) for part in x.unbind(in_dims[0])]
        return tuple(map(torch.stack, zip(*parts, strict=True))), (0, 0)


def _pooled(x: Tensor, pool: int) -> Tensor:
    """Return images as large as those that are pooled from ``x``, not yet written, in the kernels' layout."""
    n, channels, height, width = x.shape
    return torch.empty(
        (n, channels, height // pool, width // pool),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )


def _rows(x: Tensor) -> Any:
    """Return images as the kernels take them, [N, H * W, C]: without a copy if they lie so."""
    return to_dlpack(x.detach().permute(0, 2, 3, 1).contiguous().flatten(1, 2))


def _workspace(x: Tensor) -> Any:
    """Return what CUDA's kernels need beside images; torch takes it back when the stream is done with it."""
    n, channels, height, width = x.shape
    size: int = CUDA.native.batch_norm_relu_workspace_size(n * height * width, channels)
    return to_dlpack(x.new_empty(size, dtype=torch.float64))
