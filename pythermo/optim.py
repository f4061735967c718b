"""Projected SGD: parameters that live together on one sphere."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from pythermo import ops
from pythermo._checks import is_float, require_positive
from pythermo.ops.projected_sgd_step import require_learning_rate

RETRACTIONS = {"projection": ops.projected_sgd_step_, "exponential": ops.exponential_sgd_step_}


def project_(params: Iterable[Tensor], radius: float = 1.0) -> float:
    """Scale parameters in place, by one factor, so that their common norm is ``radius``.

    Parameters
    ----------
    params : iterable of Tensor
        Parameters of any shapes.
    radius : float
        Norm that all their elements together get, positive.

    Returns
    -------
    float
        The norm that they had.

    Raises
    ------
    ValueError
        For a radius that is not positive, and for parameters whose norm is zero or not finite.
    """
    radius = require_positive("radius", radius)
    tensors = [param.detach() for param in params]
    norm = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))
    if not (norm > 0.0 and math.isfinite(norm)):
        raise ValueError(f"params: their common norm must be positive and finite, not {norm}")
    for tensor in tensors:
        tensor.mul_(radius / norm)
    return norm


class ProjectedSGD(Optimizer):
    """SGD on a sphere: a step against the gradient, then back to the sphere of all parameters together.

    Each parameter group is a sphere of its own. Weights and gradients are stepped where they lie
    (`pythermo.ops.projected_sgd_step_`), in two passes over memory, and no norm is read back to Python. The
    optimizer keeps none of them: each step takes the parameters and their ``.grad`` as they are then, so that
    weights may be replaced, swapped, moved and restored between steps.

    Parameters
    ----------
    params : iterable of Tensor, or of parameter groups
        Dense parameters of one dtype (float32, float64) and device per group, each listed once. Groups may
        set ``lr``, ``radius`` and ``retraction``.
    lr : float
        Learning rate, not negative; a step with 0 leaves the weights as they are, to the bit. On a sphere of
        radius r the effective one is ``lr / r**2``.
    radius : float
        Radius of the sphere, positive. The parameters are not moved there at once (see `project_`),
        but by the first step.
    retraction : {"projection", "exponential"}
        Way back to the sphere: scaling, or moving along a great circle instead.

    Raises
    ------
    ValueError, TypeError
        For a parameter that is listed twice. From `step`, with all weights untouched: a gradient that is not
        finite, weights that are all zero, a sparse gradient, one of another dtype, weights of different
        dtypes or devices in a group, ``lr`` that is negative, ``radius`` that is not positive. The checks
        cost no pass of their own: see `pythermo.ops.projected_sgd_step_`.

    Notes
    -----
    A parameter with ``requires_grad=False`` is outside norm and step. One without gradient is in the norm,
    and its gradient counts as zero. Where no gradient of a group is other than zero, its weights stay as
    they are, to the bit. Memory in any order is stepped where it lies (``torch.channels_last``, transposed);
    copied are a gradient in another order than its weights, and weights with gaps in memory, such as slices.
    With several groups the weights are copied before each step, so that a step which is refused for one
    group changes none.

    On a CUDA device a step does not wait: gradients that are not finite leave their group's weights
    untouched, and `pythermo.ops.raise_failed_steps` raises what went wrong; other groups are moved.

    Source: arXiv 2505.23489.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        radius: float = 1.0,
        retraction: Literal["projection", "exponential"] = "projection",
    ) -> None:
        super().__init__(params, {"lr": lr, "radius": radius, "retraction": retraction})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, a sphere of its own; see `torch.optim.Optimizer.add_param_group`."""
        options = {**self.defaults, **param_group}
        require_learning_rate(options["lr"])
        require_positive("radius", options["radius"])
        _retraction(options["retraction"])
        params = param_group["params"]
        if not isinstance(params, set):  # which torch refuses, for its order
            params = [params] if isinstance(params, Tensor) else list(params)
            param_group = {**param_group, "params": params}
            _require_listed_once(
                [param for group in (*self.param_groups, param_group) for param in group["params"]]
            )
        super().add_param_group(param_group)
        try:
            _require_parameters(self.param_groups[-1]["params"])
        except Exception:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step with the gradients in ``.grad``.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients anew; called once, with gradients enabled.

        Returns
        -------
        float or None
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [_Trained(group) for group in self.param_groups]
        before = [group.copy() for group in groups] if len(groups) > 1 else []
        try:
            for group in groups:
                group.step()
        except (TypeError, ValueError):
            for group, weights in zip(groups, before, strict=False):
                group.restore(weights)
            raise
        return loss


class _Trained:
    """The parameters of a group that are trained, and how."""

    def __init__(self, group: dict[str, Any]) -> None:
        self._options = group
        self._weights: list[Tensor] = [param for param in group["params"] if param.requires_grad]

    def step(self) -> None:
        if self._weights:
            options = self._options
            grads = [weights.grad for weights in self._weights]
            _retraction(options["retraction"])(self._weights, grads, options["lr"], options["radius"])

    def copy(self) -> list[Tensor]:
        """Return a copy of the weights, but of none on a device where a step does not wait."""
        return [weights.clone() for weights in self._weights if weights.is_cpu]

    def restore(self, copies: list[Tensor]) -> None:
        for weights, copy in zip(self._weights, copies, strict=False):
            weights.copy_(copy)


def _retraction(name: str) -> Callable[..., Any]:
    if name not in RETRACTIONS:
        raise ValueError(f"retraction: must be one of {sorted(RETRACTIONS)}, not {name!r}")
    return RETRACTIONS[name]


def _require_listed_once(params: list[Tensor | tuple[str, Tensor]]) -> None:
    """Raise ValueError naming the first parameter, with or without a name of its own, that is there again."""
    seen: set[int] = set()
    for index, param in enumerate(params):
        name, tensor = param if isinstance(param, tuple) else (f"number {index}", param)
        if id(tensor) in seen:
            raise ValueError(
                f"params: parameter {name}, of shape {list(tensor.shape)}, is listed twice; list each once"
            )
        seen.add(id(tensor))


def _require_parameters(params: list[Tensor]) -> None:
    if not params:
        raise ValueError("params: a group needs at least one parameter")
    first = params[0]
    for param in params:
        if not is_float(param.dtype):
            raise TypeError(f"params: the dtype must be float32 or float64, not {param.dtype}")
        if param.dtype is not first.dtype or param.device != first.device:
            raise ValueError(
                "params: all of a group must share dtype and device; there are "
                f"{first.dtype} on {first.device} and {param.dtype} on {param.device}"
            )
