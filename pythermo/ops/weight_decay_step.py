"""Steps of SGD with weight decay in full space, in place."""

from typing import Any

from torch import Tensor

from pythermo._checks import require_not_negative
from pythermo.ops._steps import checked_step


def fixed_lr_step_(weights: Any, grad: Any, lr: float | Tensor, weight_decay: float) -> Any:
    """Make one step of SGD with weight decay in place: ``w <- w - lr * (grad + weight_decay * w)``.

    For weights of a scale-invariant loss, which are free to find their norm: weight decay is the pressure of
    the ideal gas that they are, and half the squared norm its volume. At a fixed learning rate the norm r
    obeys ``2 * weight_decay * r**4 = lr * r**2 * |grad|**2`` to first order.

    Two passes over memory: the first reads weights and gradient and checks them, the second writes the new
    weights. A gradient that is zero everywhere leaves the weights to their decay.

    Parameters
    ----------
    weights : Tensor or array [D], or list of Tensor or array
        A point other than the origin; float32 or float64. Overwritten. A list is one point together, as in
        `projected_sgd_step_`.
    grad : Tensor or array [D], or list of Tensor, array or None
        The gradient there, of the same dtype, device and shapes; not changed. None counts as zero.
    lr : float or Tensor [] or [1]
        Learning rate, not negative; at zero the weights stay as they are, to the bit. A tensor on the
        weights' CUDA device is read there.
    weight_decay : float
        What multiplies the weights in the step, not negative; ``lr * weight_decay`` below 1.

    Returns
    -------
    Tensor or array [D], or list
        ``weights`` itself.

    Raises
    ------
    ValueError, TypeError
        As `projected_sgd_step_`; for ``weight_decay`` that is negative, and where the norm would be lost: the
        step shrinks the weights to the origin or through it, or their norm overflows. The weights are as
        before then.

    Notes
    -----
    Source: arXiv 2511.07308.

    Examples
    --------
    >>> import torch
    >>> fixed_lr_step_(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0]), lr=0.5, weight_decay=0.5)
    tensor([0.7500, 0.5000])
    """
    decay = require_not_negative("weight_decay", weight_decay)
    return checked_step("fixed_lr_step", weights, grad, lr, decay)


def fixed_elr_step_(weights: Any, grad: Any, lr: float | Tensor, weight_decay: float) -> Any:
    """Make one step of SGD with weight decay at an effective learning rate, in place.

    With ``w <- w - lr * |w|**2 * (grad + weight_decay * w)`` the direction ``w / |w|`` moves as on the unit
    sphere at this learning rate, whatever the norm r, which obeys
    ``2 * weight_decay * r**2 = lr * r**2 * |grad|**2`` to first order.

    The parameters ``weights``, ``grad``, ``lr`` and ``weight_decay``, results, errors and passes over memory
    are those of `fixed_lr_step_`, with ``lr * |w|**2 * weight_decay`` below 1. Source: arXiv 2511.07308.

    Examples
    --------
    >>> import torch
    >>> fixed_elr_step_(torch.tensor([2.0, 0.0]), torch.tensor([0.0, -1.0]), lr=0.125, weight_decay=0.5)
    tensor([1.5000, 0.5000])
    """
    decay = require_not_negative("weight_decay", weight_decay)
    return checked_step("fixed_elr_step", weights, grad, lr, decay)
