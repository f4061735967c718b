"""Random projections of vectors to fewer numbers."""

from typing import Any

import torch

from pythermo import _core
from pythermo._checks import as_tensor_to_read, like_input, require_float, require_integer
from pythermo.ops._backends import CUDA, capsules, kernel, kernel_for, stream_of


@kernel("cpu", "sketch")
def _(weights: torch.Tensor, sums: torch.Tensor, seed: int) -> None:
    _core.sketch(*capsules(weights, sums), seed)


@kernel("cuda", "sketch")
def _(weights: torch.Tensor, sums: torch.Tensor, seed: int) -> None:
    with torch.cuda.device_of(weights):
        CUDA.native.sketch(*capsules(weights, sums), seed, stream_of(weights))


def sketch(weights: Any, size: int, seed: int = 0) -> Any:
    """Return a random projection of a vector to fewer numbers, which keeps squared distances on average.

    Each weight is added to one of ``size`` sums with a random sign: a sparse Johnson-Lindenstrauss
    transform (count sketch), one pass over the weights. The squared distance of two sketches of the same
    seed has the mean of that of the vectors and a relative standard deviation of at most sqrt(2 / size)
    over seeds, if no few coordinates dominate.

    Parameters
    ----------
    weights : Tensor or array [D]
        float32 or float64, contiguous.
    size : int
        Number of sums, from 1 to 2^31.
    seed : int
        From 0 to 2^63 - 1. Signs and sums are a function of seed, place in D and size: the same on every
        machine.

    Returns
    -------
    Tensor or array [size]
        In float64 and the weights' units: differences of sketches are as exact as those of the weights.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape, dtype, size, seed or device.

    Notes
    -----
    Source: Charikar et al. 2002; Weinberger et al. 2009.

    Examples
    --------
    >>> import numpy as np
    >>> projected = sketch(np.ones(1000), 10)
    >>> projected.shape
    (10,)
    >>> bool(np.all(projected == sketch(np.ones(1000), 10, seed=0)))
    True
    """
    tensor = as_tensor_to_read("weights", weights)
    require_float("weights", tensor)
    if tensor.ndim != 1 or not tensor.is_contiguous():
        raise ValueError(f"weights: must have the shape [D] and be contiguous, not {list(tensor.shape)}")
    size = require_integer("size", size, 1, 2**31)
    seed = require_integer("seed", seed, 0, 2**63 - 1)
    sums = tensor.new_empty(size, dtype=torch.float64)
    kernel_for("sketch", "weights", tensor)(tensor.detach(), sums, seed)
    return like_input(sums, weights)
