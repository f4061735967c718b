"""Random projections of vectors to fewer numbers."""

from typing import Any

import torch

from pythermo._backends import backend_of
from pythermo._checks import (
    FLOAT_DTYPES,
    as_tensor,
    like_input,
)


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
        Signs and sums are a function of seed, D's place and size: the same on every machine.

    Returns
    -------
    Tensor or array [size]
        In float64: differences of sketches are as exact as those of the weights.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape, dtype or size.

    Notes
    -----
    Source: Charikar et al. 2002; Weinberger et al. 2009.
    """
    tensor = as_tensor("weights", weights)
    if tensor.dtype not in FLOAT_DTYPES:
        raise TypeError(f"weights: the dtype must be float32 or float64, not {tensor.dtype}")
    if tensor.ndim != 1 or not tensor.is_contiguous():
        raise ValueError(f"weights: must have the shape [D] and be contiguous, not {list(tensor.shape)}")
    if size != int(size) or not 1 <= size <= 2**31:
        raise ValueError(f"size: must be an integer from 1 to 2^31, not {size}")
    sums = tensor.new_empty(int(size), dtype=torch.float64)
    backend_of("weights", tensor).sketch(tensor.detach(), sums, seed)
    return like_input(sums, weights)
