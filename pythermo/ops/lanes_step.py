"""A step on the sphere of members side by side, and their images; see csrc/lanes_step.hpp."""

from torch import Tensor

from pythermo.ops._lanes import call, register

register("lanes_projected_step", "lanes_step_workspace_size")
register("lanes_exponential_step", "lanes_step_workspace_size")
register("lanes_gather")


def projected_step(weights: Tensor, grad: Tensor, lr: Tensor, radius: float, status: Tensor) -> None:
    """Make a step of projected SGD for each member, in place.

    Parameters
    ----------
    weights, grad : Tensor [D, lanes]
        float32; on a device [groups, D, 32], and the others of all members.
    lr : Tensor [lanes]
        float64.
    radius : float
        Of the sphere that each member has.
    status : Tensor [lanes]
        int64: 0, or why a member was left where it was, by the numbers of `step_error`.
    """
    call("lanes_projected_step", weights, grad, lr, radius, status)


def exponential_step(weights: Tensor, grad: Tensor, lr: Tensor, radius: float, status: Tensor) -> None:
    """Move each member along a great circle; as `projected_step` in all else."""
    call("lanes_exponential_step", weights, grad, lr, radius, status)


def gather(samples: Tensor, indices: Tensor, out: Tensor) -> None:
    """Write the samples [N, size] of each member's indices [lanes, count] to ``out`` [count, size, lanes]."""
    call("lanes_gather", samples, indices, out)
