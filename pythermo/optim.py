"""SGD of parameters that are one point together: on a sphere, or free in norm with weight decay."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.optim.optimizer import Optimizer, ParamsT

from pythermo._checks import is_float, require_not_negative, require_one_of, require_positive
from pythermo.ops._steps import require_learning_rate, step_together

# The kernel of each.
RETRACTIONS = {"projection": "projected_sgd_step", "exponential": "exponential_sgd_step"}


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


class _SGD(Optimizer, ABC):
    """What `ProjectedSGD` and `WeightDecaySGD` share: groups that are stepped all or not at all."""

    @abstractmethod
    def _kernel(self, options: dict[str, Any]) -> tuple[str, float]:
        """Return which kernel steps a group of these options, and its number beside the learning rate."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, a point of its own; see `torch.optim.Optimizer.add_param_group`."""
        options = {**self.defaults, **param_group}
        require_learning_rate(options["lr"])
        self._kernel(options)
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
        return _watched_step(self, closure) if self._is_watched() else self._step(closure)

    # torch wraps a step in a record for its profiler, which takes as long as a small step itself: here
    # only where somebody looks.
    step.hooked = True  # type: ignore[attr-defined]

    def _is_watched(self) -> bool:
        return bool(
            torch._C._autograd._profiler_enabled()
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or optimizer._global_optimizer_pre_hooks
            or optimizer._global_optimizer_post_hooks
        )

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if len(self.param_groups) == 1:
            self._step_one(self.param_groups[0])
        else:
            self._step_all()
        return loss

    def _step_one(self, group: dict[str, Any]) -> None:
        weights = _trained(group)
        if weights:
            name, value = self._kernel(group)
            step_together(name, weights, [one.grad for one in weights], group["lr"], value)

    def _step_all(self) -> None:
        """Step all groups, or none on the CPU where one is refused."""
        before = [
            [one.detach().clone() for one in _trained(group) if one.is_cpu] for group in self.param_groups
        ]
        try:
            for group in self.param_groups:
                self._step_one(group)
        except (TypeError, ValueError):
            for group, copies in zip(self.param_groups, before, strict=True):
                for weights, copy in zip(_trained(group), copies, strict=False):
                    weights.detach().copy_(copy)
            raise


# The hooks of users, and a record of its own in torch's profiler.
_watched_step = Optimizer.profile_hook_step(_SGD._step)


class ProjectedSGD(_SGD):
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

    def _kernel(self, options: dict[str, Any]) -> tuple[str, float]:
        require_one_of("retraction", options["retraction"], RETRACTIONS)
        return RETRACTIONS[options["retraction"]], require_positive("radius", options["radius"])


class WeightDecaySGD(_SGD):
    """SGD with weight decay of parameters that are one point together, whose norm is free.

    The weights of a scale-invariant loss grow by each step against their gradient, which is tangent, and
    shrink by weight decay: half the square of the norm that they find is the volume of an ideal gas, and
    weight decay its pressure. Each parameter group has a norm of its own. Weights and gradients are stepped
    where they lie (`pythermo.ops.fixed_lr_step_`, `pythermo.ops.fixed_elr_step_`), in two passes over memory.
    The optimizer keeps none of them.

    Parameters
    ----------
    params : iterable of Tensor, or of parameter groups
        As of `ProjectedSGD`. Groups may set ``lr``, ``weight_decay`` and ``effective_lr``.
    lr : float
        Learning rate, not negative; a step with 0 leaves the weights as they are, to the bit.
    weight_decay : float
        Not negative: ``w <- w - eta * (grad + weight_decay * w)``.
    effective_lr : bool
        Whether ``lr`` is the effective learning rate, that of the unit sphere: then ``eta = lr * |w|**2``
        with the norm of the group, or else ``eta = lr``.

    Raises
    ------
    ValueError, TypeError
        As `ProjectedSGD`. From `step`, with all weights untouched, also where the norm would be lost: at
        ``eta * weight_decay`` of 1 and more, or where it overflows.

    Notes
    -----
    Parameters that are not trained, that have no gradient, in any order of memory, and steps on a CUDA device
    are as in `ProjectedSGD`; but where all gradients of a group are zero, its weights decay.

    Source: arXiv 2511.07308.
    """

    def __init__(self, params: ParamsT, lr: float, weight_decay: float, effective_lr: bool = False) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "effective_lr": effective_lr})

    def _kernel(self, options: dict[str, Any]) -> tuple[str, float]:
        if not isinstance(options["effective_lr"], bool):
            raise TypeError(f"effective_lr: must be True or False, not {options['effective_lr']!r}")
        kernel = "fixed_elr_step" if options["effective_lr"] else "fixed_lr_step"
        return kernel, require_not_negative("weight_decay", options["weight_decay"])


def _trained(group: dict[str, Any]) -> list[Tensor]:
    return [param for param in group["params"] if param.requires_grad]


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
