"""A step on the sphere of members side by side, and their images; see csrc/lanes_step.hpp."""

from torch import Tensor

from pythermo import _core
from pythermo.ops._backends import kernel, to_dlpack


@kernel("cpu", "lanes_projected_step")
def projected_step(weights: Tensor, grad: Tensor, lr: Tensor, radius: float, status: Tensor) -> None:
    """Make a step of projected SGD for each member, in place.

    Parameters
    ----------
    weights, grad : Tensor [D, lanes]
        float32.
    lr : Tensor [lanes]
        float64.
    radius : float
        Of the sphere that each member has.
    status : Tensor [lanes]
        int64: 0, or why a member was left where it was, by the numbers of `step_error`.
    """
    _step("lanes_projected_step", weights, grad, lr, radius, status)


@kernel("cpu", "lanes_exponential_step")
def exponential_step(weights: Tensor, grad: Tensor, lr: Tensor, radius: float, status: Tensor) -> None:
    """Move each member along a great circle; as `projected_step` in all else."""
    _step("lanes_exponential_step", weights, grad, lr, radius, status)


def _step(name: str, weights: Tensor, grad: Tensor, lr: Tensor, radius: float, status: Tensor) -> None:
    getattr(_core, name)(to_dlpack(weights), to_dlpack(grad), to_dlpack(lr), radius, to_dlpack(status))


@kernel("cpu", "lanes_gather")
def gather(samples: Tensor, indices: Tensor, out: Tensor) -> None:
    """Write the samples [N, size] of each member's indices [lanes, count] to ``out`` [count, size, lanes]."""
    _core.lanes_gather(to_dlpack(samples), to_dlpack(indices), to_dlpack(out))
