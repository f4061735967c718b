"""The sums of gradients that their signal-to-noise ratio needs."""

from typing import Any

import torch

from pythermo import _core
from pythermo._checks import as_tensor_to_read, as_tensor_to_write, like_input, require_float
from pythermo.ops._backends import CUDA, KERNELS, capsules, counter, kernel, kernel_for, stream_of, workspace


@kernel("cpu", "gradient_sums")
def _(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    sums = grad.new_empty(2, dtype=torch.float64)
    _core.gradient_sums(*capsules(grad, center, total, sums), torch.get_num_threads())
    return sums


@kernel("cuda", "gradient_sums")
def _(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    with torch.cuda.device_of(grad):
        sums = grad.new_empty(2, dtype=torch.float64)
        parts = workspace("gradient_sums", CUDA.native.gradient_workspace_size(), grad)
        tensors = capsules(grad, center, total, sums, parts, counter("gradient_sums: blocks", grad))
        CUDA.native.gradient_sums(*tensors, stream_of(grad), CUDA.threads)
    return sums


@torch.library.custom_op("pythermo::gradient_sums_", mutates_args=("total",), device_types=("cpu", "cuda"))
def _gradient_sums_(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    sums: torch.Tensor = KERNELS[grad.device.type, "gradient_sums"](grad, center, total)
    return sums


@_gradient_sums_.register_fake
def _(grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    return grad.new_empty(2, dtype=torch.float64)


def gradient_sums_(grad: Any, center: Any = None, total: Any = None) -> Any:
    """Return |g|^2 and |g - center|^2 of a gradient in one pass over it, which may also add it to a total.

    Parameters
    ----------
    grad : Tensor or array [D]
        A stochastic gradient g; float32 or float64, contiguous.
    center : Tensor or array [D], optional
        What its noise is measured from, in float64 and contiguous; 0 if not given.
    total : Tensor or array [D], optional
        In float64 and contiguous; g is added to it in place.

    Returns
    -------
    Tensor or array [2]
        In float64 on the gradient's device, which nothing waits for. Not finite where the gradient is not.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes or devices that do not fit.

    Notes
    -----
    The numbers of the signal-to-noise ratio (`pythermo.gradient_noise`), added up in float64; in squared
    loss units per squared weight unit. Source: arXiv 2505.23489.

    Examples
    --------
    >>> import torch
    >>> total = torch.zeros(2, dtype=torch.float64)
    >>> gradient_sums_(torch.tensor([3.0, 4.0]), center=torch.tensor([3.0, 0.0]).double(), total=total)
    tensor([25., 16.], dtype=torch.float64)
    >>> total
    tensor([3., 4.], dtype=torch.float64)
    """
    tensor = as_tensor_to_read("grad", grad)
    require_float("grad", tensor)
    if tensor.ndim != 1 or not tensor.is_contiguous():
        raise ValueError(f"grad: must have the shape [D] and be contiguous, not {list(tensor.shape)}")
    if not tensor.is_meta:
        kernel_for("gradient_sums", "grad", tensor)
    none = tensor.new_empty(0, dtype=torch.float64)
    from_where = none if center is None else as_tensor_to_read("center", center).detach()
    onto = none if total is None else as_tensor_to_write("total", total)
    for name, other in (("center", from_where), ("total", onto)):
        if other is none:
            continue
        if other.dtype is not torch.float64:
            raise TypeError(f"{name}: the dtype must be float64, not {other.dtype}")
        if other.shape != tensor.shape or other.device != tensor.device or not other.is_contiguous():
            raise ValueError(
                f"{name}: must have the shape {list(tensor.shape)} on {tensor.device} and be contiguous, "
                f"not {list(other.shape)} on {other.device}"
            )
    return like_input(_gradient_sums_(tensor.detach(), from_where, onto), grad)
