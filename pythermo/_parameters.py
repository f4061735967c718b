"""A network's parameters as one flat vector, and back."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def count(params: Iterable[Tensor]) -> int:
    """Return the number D of their elements together."""
    return sum(param.numel() for param in params)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Return a copy [D] of the elements of tensors, in their order, without a gradient."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


@torch.no_grad()
def write_(params: Sequence[Tensor], point: Tensor) -> None:
    """Overwrite parameters by the parts of a flat vector [D]."""
    for param, part in zip(params, point.split([param.numel() for param in params]), strict=True):
        param.copy_(part.view_as(param))
