"""Steps of SGD on the sphere, in place."""

from typing import Any

from torch import Tensor

from pythermo._checks import require_positive
from pythermo.ops._steps import checked_step


def projected_sgd_step_(weights: Any, grad: Any, lr: float | Tensor, radius: float = 1.0) -> Any:
    """Make one step of projected SGD in place: ``w <- radius * v / |v|`` with ``v = w - lr * grad``.

    Two passes over memory: the first reads weights and gradient and finds |v|, the second reads both
    again and writes the new weights. The first pass writes nothing, so a bad input is refused with the
    weights untouched, and that check costs no pass of its own. A gradient that is zero everywhere
    leaves the weights exactly as they are.

    Float32 vectors of 2^22 elements and more, which come from memory and not from a cache, are read
    three times instead of four: the first pass reads the gradient alone, and checks it; the second
    writes the weights with the norm that |v| has for weights on the sphere and a gradient tangent to
    it, which that of a scale-invariant loss is, and finds the true |v|; if the two differ by more than
    2^-24, a third pass corrects the weights. Weights that were not finite before are refused then,
    but may have changed.

    Parameters
    ----------
    weights : Tensor or array [D], or list of Tensor or array
        A point other than the origin, usually of norm ``radius``; float32 or float64, contiguous.
        Overwritten. Tensors of any shapes and strides in a list are one point together, and are stepped where
        they lie, with the bits of the step on one flat vector of their elements in the order of their memory;
        a copy is made of one whose elements do not lie side by side.
    grad : Tensor or array [D], or list of Tensor, array or None
        The gradient there, of the same dtype and device; not changed. In a list one for each of the weights,
        of the same shape; None counts as zero. One in another order of memory than its weights is copied.
    lr : float or Tensor [] or [1]
        Learning rate, not negative; at zero the weights stay as they are, to the bit. On a sphere of
        radius r the effective one is ``lr / r**2``. A tensor on the weights' CUDA device is read there.
    radius : float
        Radius of the sphere, positive.

    Returns
    -------
    Tensor or array [D], or list
        ``weights`` itself.

    Raises
    ------
    ValueError
        For a NaN or infinite element (named by its index, which in a list is that in the order of memory),
        weights that are all zero, a step that ends at the origin, ``lr`` that is negative, ``radius`` that
        is not positive, shapes or devices that differ, a vector that is not contiguous, weights that share
        memory.
    TypeError
        For another dtype, a sparse gradient, or something that is neither tensor nor array.

    Notes
    -----
    In float32 the squares are added up in short float32 runs and these in float64: the norm of the
    result is ``radius`` to 2e-7. Source: arXiv 2505.23489.

    Examples
    --------
    >>> import torch
    >>> projected_sgd_step_(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0]), lr=1.0)
    tensor([0.7071, 0.7071])
    >>> projected_sgd_step_([torch.tensor([[3.0]]), torch.tensor([4.0])], [None, None], lr=1.0)
    [tensor([[3.]]), tensor([4.])]
    """
    return checked_step("projected_sgd_step", weights, grad, lr, require_positive("radius", radius))


def exponential_sgd_step_(weights: Any, grad: Any, lr: float | Tensor, radius: float = 1.0) -> Any:
    """Make one Riemannian SGD step in place: along a great circle by the arc length ``lr * |t|``.

    Here t is the part of the gradient that is tangent to the sphere at the weights; the new weights are
    ``radius * (cos(a) w/|w| - sin(a) t/|t|)`` with the angle ``a = lr * |t| / radius``. It agrees with
    `projected_sgd_step_` to second order in ``lr``. In floating point a gradient whose radial part is c
    times its tangent part, which that of a scale-invariant loss has not, costs log10(c) digits.

    The parameters ``weights``, ``grad``, ``lr`` and ``radius``, results, errors and passes over memory are
    those of `projected_sgd_step_`. Source:
    arXiv 2505.23489; the retraction is the exponential map of the sphere.
    """
    return checked_step("exponential_sgd_step", weights, grad, lr, require_positive("radius", radius))
