"""The sums of gradients of members side by side that their signal-to-noise ratios need."""

import torch
from torch import Tensor

from pythermo.ops._lanes import call, register

register("lanes_gradient_sums", "lanes_gradient_sums_workspace_size")


def member_gradient_sums(grad: Tensor, center: Tensor | None = None, total: Tensor | None = None) -> Tensor:
    """Return |g|^2 and |g - center|^2 of each member's gradient, and add it to a total.

    Parameters
    ----------
    grad : Tensor [..., D, lanes]
        float32; on a device with a first dimension of groups.
    center, total : Tensor [..., D, lanes], optional
        float64.

    Returns
    -------
    Tensor [..., 2, lanes]
        float64.
    """
    sums = grad.new_empty(*grad.shape[:-2], 2, grad.shape[-1], dtype=torch.float64)
    none = sums.new_empty(0)
    others = [none if one is None else one.view(-1) for one in (center, total)]
    call("lanes_gradient_sums", grad, *others, sums.view(-1))
    return sums
