"""A step of members side by side, and their images; see csrc/lanes_step.hpp."""

from torch import Tensor

from pythermo.ops._lanes import call, register

STEPS = ("lanes_projected_step", "lanes_exponential_step", "lanes_fixed_lr_step", "lanes_fixed_elr_step")

for _name in (*STEPS, "lanes_products"):
    register(_name, "lanes_step_workspace_size")
register("lanes_gather")


def member_step(
    kernel: str, weights: Tensor, grad: Tensor, lr: Tensor, parameter: Tensor, status: Tensor
) -> None:
    """Make a step for each member, in place.

    Parameters
    ----------
    kernel : str
        One of `STEPS`.
    weights, grad : Tensor [D, lanes]
        float32; on a device [groups, D, 32], and the others of all members.
    lr : Tensor [lanes]
        float64.
    parameter : Tensor [lanes]
        float64: the radius of each member's sphere or, where there is none, its weight decay.
    status : Tensor [lanes]
        int64: 0, or why a member was left where it was, by the numbers of `STEP_ERRORS`.
    """
    call(kernel, weights, grad, lr, parameter, status)


def products(weights: Tensor, grad: Tensor, out: Tensor) -> None:
    """Write ``|w|**2``, ``|g|**2``, ``<w, g>`` of each member to ``out``, [..., 3, lanes] as flat float64."""
    call("lanes_products", weights, grad, out)


def gather(samples: Tensor, indices: Tensor, out: Tensor) -> None:
    """Write the samples [N, size] of each member's indices [lanes, count] to ``out`` [count, size, lanes]."""
    call("lanes_gather", samples, indices, out)
