"""The sums of gradients of members side by side that their signal-to-noise ratios need."""

import torch
from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


@kernel("cpu", "lanes_gradient_sums")
def member_gradient_sums(grad: Tensor, center: Tensor | None = None, total: Tensor | None = None) -> Tensor:
    """Return |g|^2 and |g - center|^2 of each member's gradient, and add it to a total.

    Parameters
    ----------
    grad : Tensor [D, lanes]
        float32.
    center, total : Tensor [D, lanes], optional
        float64.

    Returns
    -------
    Tensor [2, lanes]
        float64.
    """
    none = torch.empty(0, dtype=torch.float64)
    sums = torch.empty(2, grad.shape[1], dtype=torch.float64)
    others = [none if one is None else one.view(-1) for one in (center, total)]
    _core.lanes_gradient_sums(to_dlpack(grad), *map(to_dlpack, others), to_dlpack(sums.view(-1)))
    return sums
