"""Minibatches drawn with replacement; see csrc/minibatches.hpp."""

import torch
from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


@kernel("cpu", "minibatches")
def minibatches(draws: Tensor, population: int, size: int) -> Tensor:
    """Return the indices [draws, size], int64, of minibatches.

    Parameters
    ----------
    draws : Tensor [draws, 5]
        int64: seed, stream, step, index, member of each.
    population, size : int
        Number of samples to draw from, and of indices to draw.
    """
    indices = torch.empty(len(draws), size, dtype=torch.int64)
    _core.minibatches(to_dlpack(draws), population, to_dlpack(indices))
    return indices
