"""Batch normalisation, max pooling and ReLU as one operation on images."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pythermo import _core
from pythermo._backends import to_dlpack
from pythermo._checks import FLOAT_DTYPES


def batch_norm_relu(x: Tensor, pool: int = 1, eps: float = 1e-12) -> Tensor:
    """Normalise channels by their batch's statistics, take the largest of pool x pool pixels, and ReLU.

    Parameters
    ----------
    x : Tensor [N, C, H, W]
        Images of any floating dtype and on any device. Those that are not laid out as
        `torch.channels_last` are copied.
    pool : int
        1, or 2 for the largest of each 2x2 pixels; a last row or column that has no partner is left out,
        but has its part in the statistics.
    eps : float
        Added to the variances; not negative.

    Returns
    -------
    Tensor [N, C, H // pool, W // pool]
        NaN in each channel that is not finite.

    Raises
    ------
    ValueError, TypeError
        For another shape or dtype, fewer than two pixels a channel, another pool or eps.

    Notes
    -----
    The function is that of torch's `batch_norm` without trained parameters, `max_pool2d` and `relu`, which do
    the work except for float32 and float64 on the CPU outside of `torch.compile`. There one kernel reads the
    images twice for the outputs and once for the gradients, with sums in float64, and gives the same bits
    for any number of threads. Derivatives of any order exist; all beside the plain gradient are torch's.
    """
    _require(x, pool, eps)
    if x.device.type == "cpu" and x.dtype in FLOAT_DTYPES and not torch.compiler.is_compiling():
        output: Tensor = _BatchNormReLU.apply(x, pool, eps)[0]
        return output
    return _composed(x, pool, eps)


def _require(x: Tensor, pool: int, eps: float) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x: the dtype must be a floating one, not {x.dtype}")
    if pool not in (1, 2):
        raise ValueError(f"pool: must be 1 or 2, not {pool}")
    if x.ndim != 4 or min(x.shape[1], *(side // pool for side in x.shape[2:])) < 1:
        raise ValueError(
            f"x: must be images [N, C, H, W] with C >= 1 and H, W >= {pool}, not {list(x.shape)}"
        )
    if x.shape[0] * x.shape[2] * x.shape[3] < 2:
        raise ValueError(f"x: must have at least two pixels in each channel, not {list(x.shape)}")
    if not 0.0 <= eps < float("inf"):
        raise ValueError(f"eps: must be finite and not negative, not {eps}")


def _composed(x: Tensor, pool: int, eps: float) -> Tensor:
    normalised = functional.batch_norm(x, None, None, training=True, eps=eps)
    return functional.relu(functional.max_pool2d(normalised, pool) if pool > 1 else normalised)


@torch.library.custom_op("pythermo::batch_norm_relu", mutates_args=(), device_types="cpu")
def _batch_norm_relu(x: Tensor, pool: int, eps: float) -> tuple[Tensor, Tensor]:
    images, (n, _, height, width) = _channels_last(x), x.shape
    output = images.new_empty(n, height // pool, width // pool, x.shape[1])
    statistics = images.new_empty(2 * x.shape[1])
    _core.batch_norm_relu(
        _rows(images), width, pool, eps, _rows(output), to_dlpack(statistics), torch.get_num_threads()
    )
    return output.permute(0, 3, 1, 2), statistics


@_batch_norm_relu.register_fake
def _(x: Tensor, pool: int, eps: float) -> tuple[Tensor, Tensor]:
    n, channels, height, width = x.shape
    output = x.new_empty(n, height // pool, width // pool, channels)
    return output.permute(0, 3, 1, 2), x.new_empty(2 * channels)


@torch.library.custom_op("pythermo::batch_norm_relu_backward", mutates_args=(), device_types="cpu")
def _batch_norm_relu_backward(
    x: Tensor, pool: int, output: Tensor, statistics: Tensor, grad: Tensor
) -> Tensor:
    images = _channels_last(x)
    grad_x = torch.empty_like(images)
    _core.batch_norm_relu_backward(
        _rows(images),
        x.shape[3],
        pool,
        _rows(_channels_last(output)),
        to_dlpack(statistics),
        _rows(_channels_last(grad)),
        _rows(grad_x),
        torch.get_num_threads(),
    )
    return grad_x.permute(0, 3, 1, 2)


@_batch_norm_relu_backward.register_fake
def _(x: Tensor, pool: int, output: Tensor, statistics: Tensor, grad: Tensor) -> Tensor:
    return x.new_empty([x.shape[i] for i in (0, 2, 3, 1)]).permute(0, 3, 1, 2)


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
            pull_back = torch.func.vjp(lambda x: _composed(x, ctx.pool, ctx.eps), x)[1]
            return pull_back(grad)[0], None, None
        return _batch_norm_relu_backward(x, ctx.pool, output, statistics, grad), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        normalised = (x - mean) * (variance + ctx.eps).rsqrt()
        along = tangent - tangent.mean((0, 2, 3), keepdim=True)
        along = along - normalised * (along * normalised).mean((0, 2, 3), keepdim=True)
        largest, which = functional.max_pool2d(normalised, ctx.pool, return_indices=True)
        moved = (along * (variance + ctx.eps).rsqrt()).flatten(2).gather(2, which.flatten(2))
        passed = moved.view_as(largest) * (largest > 0)
        return passed.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), None  # laid out as the outputs

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int, None, None], x: Tensor, pool: int, eps: float) -> Any:
        parts = [_BatchNormReLU.apply(part, pool, eps) for part in x.unbind(in_dims[0])]
        return tuple(map(torch.stack, zip(*parts, strict=True))), (0, 0)


def _channels_last(x: Tensor) -> Tensor:
    """Return images [N, C, H, W] as [N, H, W, C], without a copy if they lie so."""
    return x.detach().permute(0, 2, 3, 1).contiguous()


def _rows(images: Tensor) -> Any:
    """Return images [N, H, W, C] as the kernels take them: [N, H * W, C]."""
    return to_dlpack(images.flatten(1, 2))
