"""Projected SGD: parameters that live together on one sphere."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from pythermo import ops
from pythermo._checks import is_float, require_positive

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

    Each parameter group is a sphere of its own. The parameters of a group become views of one flat
    buffer and their gradients views of another, so that a step is two passes over memory
    (`pythermo.ops.projected_sgd_step_`) and no norm is read back to Python. The module's own
    parameters stay what they are, `nn.Parameter` objects.

    Parameters
    ----------
    params : iterable of Tensor, or of parameter groups
        Dense parameters of one dtype (float32, float64) and device per group. Groups may set ``lr``,
        ``radius`` and ``retraction``.
    lr : float
        Learning rate, positive. On a sphere of radius r the effective one is ``lr / r**2``.
    radius : float
        Radius of the sphere, positive. The parameters are not moved there at once (see `project_`),
        but by the first step.
    retraction : {"projection", "exponential"}
        Way back to the sphere: scaling, or moving along a great circle instead.

    Raises
    ------
    ValueError, TypeError
        From `step`, with all weights untouched: a gradient that is not finite, weights
        that are all zero, a sparse gradient, one of another dtype, ``lr`` or ``radius`` that are not
        positive. The checks cost no pass of their own: see `pythermo.ops.projected_sgd_step_`.

    Notes
    -----
    Gradients that lie in the flat buffer, as after ``zero_grad(set_to_none=False)``, are used where
    they are. Where one was assigned anew, as ``zero_grad()`` followed by ``backward()`` does, all are
    copied into a second buffer, one pass more, and ``.grad`` stays the user's. A parameter without
    gradient counts as one with gradient zero. Where no gradient of a group is other than zero, its
    weights stay as they are, to the bit. With several groups the weights are copied before each step, so
    that a step which is refused for one group changes none.

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
        self._spheres: list[_Sphere] = []
        super().__init__(params, {"lr": lr, "radius": radius, "retraction": retraction})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, a sphere of its own; see `torch.optim.Optimizer.add_param_group`."""
        options = {**self.defaults, **param_group}
        require_positive("lr", options["lr"])
        require_positive("radius", options["radius"])
        _retraction(options["retraction"])
        super().add_param_group(param_group)
        try:
            self._spheres.append(_Sphere(self.param_groups[-1]["params"]))
        except Exception:
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not hasattr(self, "_spheres"):  # unpickled, not from load_state_dict
            self._spheres = [_Sphere(group["params"]) for group in self.param_groups]

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
        moved: list[tuple[Tensor, Tensor]] = []
        try:
            for sphere, group in zip(self._spheres, self.param_groups, strict=True):
                weights, grad = sphere.gather()
                if len(self._spheres) > 1 and weights.is_cpu:
                    moved.append((weights, weights.clone()))
                _retraction(group["retraction"])(weights, grad, group["lr"], group["radius"])
        except (TypeError, ValueError):
            for weights, before in moved:
                weights.copy_(before)
            raise
        for sphere in self._spheres:
            sphere.mark_changed()
        return loss


def _retraction(name: str) -> Callable[..., Any]:
    if name not in RETRACTIONS:
        raise ValueError(f"retraction: must be one of {sorted(RETRACTIONS)}, not {name!r}")
    return RETRACTIONS[name]


class _Sphere:
    """The flat buffers of one parameter group."""

    def __init__(self, params: list[Tensor]) -> None:
        if not params:
            raise ValueError("params: a group needs at least one parameter")
        first = params[0]
        if not is_float(first.dtype):
            raise TypeError(f"params: the dtype must be float32 or float64, not {first.dtype}")
        for param in params:
            if param.dtype is not first.dtype or param.device != first.device:
                raise ValueError(
                    "params: all of a group must share dtype and device; there are "
                    f"{first.dtype} on {first.device} and {param.dtype} on {param.device}"
                )
        self._params = params
        size = sum(param.numel() for param in params)
        self._weights = _flat_buffer(size, first)
        self._grad = _flat_buffer(size, first)
        self._copied: Tensor | None = None  # of gradients that the user assigned; made when first needed
        self._copied_views: list[Tensor] = []
        self._weight_views = _views(self._weights, params)
        self._grad_views = _views(self._grad, params)
        self._adopt_weights()
        for param, view in zip(params, self._grad_views, strict=True):
            if param.grad is None:
                param.grad = view
        self._addresses = [view.data_ptr() for view in self._weight_views]

    def gather(self) -> tuple[Tensor, Tensor]:
        """Return the flat weights and gradient, brought up to date with what the user assigned."""
        if [param.data_ptr() for param in self._params] != self._addresses:
            self._adopt_weights()
        if all(param.grad is view for param, view in zip(self._params, self._grad_views, strict=True)):
            return self._weights, self._grad
        if self._copied is None:
            self._copied = _flat_buffer(len(self._grad), self._grad)
            self._copied_views = _views(self._copied, self._params)
        for param, view in zip(self._params, self._copied_views, strict=True):
            if param.grad is None:
                view.zero_()
                continue
            _require_fitting("grad", param.grad, view)
            view.copy_(param.grad)
        return self._weights, self._copied

    def mark_changed(self) -> None:
        """Tell autograd that the parameters have other values than the graphs made so far have saved."""
        for param in self._params:
            if not param.is_inference():
                torch.autograd.graph.increment_version(param)

    def _adopt_weights(self) -> None:
        for param, view in zip(self._params, self._weight_views, strict=True):
            _require_fitting("params", param, view)
        for param, view in zip(self._params, self._weight_views, strict=True):
            view.copy_(param.detach())
            param.data = view


def _require_fitting(name: str, tensor: Tensor, view: Tensor) -> None:
    """Raise unless a tensor that the user assigned may go where the optimizer keeps its copy."""
    if tensor.is_sparse:
        raise TypeError(f"{name}: must be dense, not sparse")
    if tensor.dtype is not view.dtype:
        raise TypeError(f"{name}: the dtype must be {view.dtype}, as at first, not {tensor.dtype}")
    if tensor.device != view.device or tensor.shape != view.shape:
        raise ValueError(
            f"{name}: must have the shape {list(view.shape)} on {view.device}, as at first, "
            f"not {list(tensor.shape)} on {tensor.device}; make the optimizer after moving the model"
        )


def _flat_buffer(size: int, like: Tensor) -> Tensor:
    if like.device.type != "cpu":
        return torch.zeros(size, dtype=like.dtype, device=like.device)
    # numpy asks for huge pages, which torch does not: large steps gain some ten percent.
    array = np.empty(size, dtype=np.float32 if like.dtype is torch.float32 else np.float64)
    return torch.from_numpy(array).zero_()


def _views(flat: Tensor, params: list[Tensor]) -> list[Tensor]:
    parts = flat.split([param.numel() for param in params])
    return [part.view(param.shape) for part, param in zip(parts, params, strict=True)]
