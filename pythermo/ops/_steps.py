"""What all steps of SGD share: their operators, tensors that are one vector, and what went wrong."""

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from pythermo import _core
from pythermo._checks import as_tensor, require_float
from pythermo.ops._backends import (
    CUDA,
    KERNELS,
    kernel,
    kernel_for,
    status_word,
    stream_of,
    take_status,
    to_dlpack,
    workspace,
)
from pythermo.ops._layout import Grads, Tensors, laid_out_alike, same

_library = torch.library.Library("pythermo", "DEF")

# Of weights, gradient, learning rate, radius or weight decay, and a learning rate on the device or None.
_Step = Callable[[Tensor, Tensor, float, float, Tensor | None], None]

# What native code, and torch for tensors that it can not hand over, raise before a weight has changed.
_REFUSED = (BufferError, RuntimeError, TypeError, ValueError)

# What StepError of csrc/projected_sgd_step.hpp says.
STEP_ERRORS = {
    1: "grad: weights, gradient and the squared length of the step must be finite",
    2: "weights: all elements are zero; they must have a direction",
    3: "grad: the step ends at the origin, which has no direction",
    4: "weights: their norm is too far from the radius for their dtype",
    5: "lr: must be finite in the weights' dtype and not negative",
    6: "lr and weight_decay: the step takes the weights through the origin or to infinity, and their norm is "
    "lost; take a smaller lr",
    7: "radius or weight_decay: a radius must be positive, a weight decay not negative, and both finite",
}


def _register_step(name: str, parameter: str) -> _Step:
    """Register step kernels as the operator ``pythermo::name_`` and return a function that runs it.

    What it takes beside the learning rate is the parameter of that name.

    On the CPU a step raises at once. On CUDA a learning rate [1] in float64 may lie on the device, nothing is
    waited for, and `raise_failed_steps` tells what went wrong.
    """

    @kernel("cpu", name)
    def _(weights: Tensors, grads: Grads, lr: float, value: float, lr_there: Tensor | None) -> None:
        rate = lr if lr_there is None else float(lr_there)
        getattr(_core, name)(*_capsules(weights, grads), rate, value, torch.get_num_threads())

    @kernel("cuda", name)
    def _(weights: Tensors, grads: Grads, lr: float, value: float, lr_there: Tensor | None) -> None:
        first = weights[0]
        with torch.cuda.device_of(first):
            size = CUDA.native.step_workspace_size(len(weights))
            parts = workspace(f"step of {size}", size, first)
            arguments = CUDA.native.StepArguments(
                lr,
                to_dlpack(parts[:0] if lr_there is None else lr_there),
                value,
                to_dlpack(parts),
                to_dlpack(status_word(first.device)),
                stream_of(first),
                CUDA.step_threads,
            )
            getattr(CUDA.native, name)(*_capsules(weights, grads), arguments)

    _library.define(
        f"{name}_(Tensor(a!) weights, Tensor grad, float lr, float {parameter}, Tensor? lr_on_device=None)"
        " -> ()"
    )

    def on_device(
        weights: Tensor,
        grad: Tensor,
        lr: float,
        value: float,
        lr_on_device: Tensor | None = None,
    ) -> None:
        KERNELS[weights.device.type, name]([weights], [grad], lr, value, lr_on_device)
        _mark_changed([weights])

    def fake(*arguments: Any) -> None:
        return None

    def no_derivative(weights: Tensor, grad: Tensor, *others: Any) -> None:
        _refuse_derivative(f"{name}_", weights, grad)
        with torch._C._AutoDispatchBelowAutograd():
            operator(weights, grad, *others)

    for key in ("CPU", "CUDA"):
        _library.impl(f"{name}_", on_device, key)
    _library.impl(f"{name}_", no_derivative, "Autograd")
    torch.library.register_fake(f"pythermo::{name}_", fake, lib=_library)
    operator = getattr(torch.ops.pythermo, f"{name}_").default

    def run(weights: Tensor, grad: Tensor, *others: Any) -> None:
        # On small vectors torch's dispatcher takes as long as the step, and checks that do not fail do too:
        # plain tensors do without, and what the kernel refuses is looked at then.
        if type(weights) is not Tensor or weights.is_meta or torch.compiler.is_compiling():
            _check_vectors(weights, grad)
            operator(weights, grad, *others)
            return
        _refuse_derivative(f"{name}_", weights, grad)
        if weights.ndim != 1 or grad.ndim != 1:
            _check_vectors(weights, grad)
        try:
            kernel_for(name, "weights", weights)([weights], [grad], *others)
        except _REFUSED:
            _check_vectors(weights, grad)
            raise
        _mark_changed([weights])

    return run


def _capsules(weights: Tensors, grads: Grads) -> tuple[list[Any], list[Any]]:
    moved, taken = list[Any](), list[Any]()
    for one in weights:
        if one.is_neg():
            _refuse_negated(len(moved))
        moved.append(to_dlpack(one))
    for grad in grads:
        if grad is not None and grad.is_neg():
            grad = grad.resolve_neg()
        taken.append(None if grad is None else to_dlpack(grad))
    return moved, taken


def _refuse_negated(index: int) -> NoReturn:
    raise ValueError(
        f"weights: tensor {index} must not be a lazily negated view; give what resolve_neg() returns"
    )


def _mark_changed(tensors: Tensors) -> None:
    """Tell autograd that graphs which saved the old values must not be gone back through."""
    try:
        torch.autograd.graph.increment_version(tensors)
    except RuntimeError:  # some are inference tensors, which nothing saves
        torch.autograd.graph.increment_version([one for one in tensors if not one.is_inference()])


def _refuse_derivative(name: str, *tensors: Tensor | None) -> None:
    if not torch.is_grad_enabled():
        return
    for one in tensors:
        if one is not None and one.requires_grad:
            raise RuntimeError(
                f"{name}: the step has no derivative; call it under torch.no_grad() or with detached tensors"
            )


_STEPS = {
    name: _register_step(name, parameter)
    for parameter, names in {
        "radius": ("projected_sgd_step", "exponential_sgd_step"),
        "weight_decay": ("fixed_lr_step", "fixed_elr_step"),
    }.items()
    for name in names
}


def checked_step(name: str, weights: Any, grad: Any, lr: float | Tensor, value: float) -> Any:
    """Check what the kernel does not, make the step in place and return ``weights`` as given."""
    if isinstance(weights, (list, tuple)) and isinstance(grad, (list, tuple)):
        parts = [one if isinstance(one, Tensor) else _as_weights(one) for one in weights]
        grads = [one if one is None or isinstance(one, Tensor) else as_tensor("grad", one) for one in grad]
        _refuse_derivative(f"{name}_", *parts, *grads)
        step_together(name, parts, grads, lr, value)
        return weights
    w = weights if type(weights) is Tensor else _as_weights(weights)
    g = grad if type(grad) is Tensor else as_tensor("grad", grad)
    _STEPS[name](w, g, *_rate_and_value(lr, value, w))
    return weights


def _as_weights(weights: Any) -> Tensor:
    if isinstance(weights, np.ndarray) and not weights.flags.writeable:
        raise ValueError("weights: must be writeable, for the step is made in place")
    return as_tensor("weights", weights)


def _rate_and_value(lr: float | Tensor, value: float, weights: Tensor) -> tuple[float, float, Tensor | None]:
    """Return what follows the gradient in a step: the learning rate last, if it is on the weights' device."""
    if isinstance(lr, Tensor) and lr.device == weights.device and not weights.is_cpu:
        if lr.numel() != 1:
            raise ValueError(f"lr: must be one number, not a tensor of shape {list(lr.shape)}")
        return 0.0, value, lr.detach().double().reshape(1)
    return require_learning_rate(lr), value, None


def require_learning_rate(lr: Any) -> float:
    """Return a learning rate as a float if it is finite and not negative."""
    try:
        number = float(lr)
    except (TypeError, ValueError):
        raise TypeError(f"lr: must be a number, not {lr!r}") from None
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(f"lr: must be finite and not negative, not {lr}")
    return number


def step_together(name: str, weights: Tensors, grads: Grads, lr: float | Tensor, value: float) -> None:
    """Make a step by the kernel of a name on tensors of any shapes that are one vector, where they lie.

    For callers that let no derivative be taken; ``value`` is the radius or the weight decay. The kernel looks
    at the tensors before it changes one; what it refuses is looked at again, and copied where that helps.
    """
    if len(weights) == 0 or len(grads) != len(weights):
        raise ValueError(
            f"weights and grad: must be as many, at least one, not {len(weights)} and {len(grads)}"
        )
    first = weights[0]
    run = kernel_for(name, "weights", first)
    rest = _rate_and_value(lr, value, first)
    try:
        run(weights, grads, *rest)
    except _REFUSED:
        require_float("weights", first)
        moved, taken = laid_out_alike(weights, grads)
        if same(moved, weights) and same(taken, grads):
            raise
        run(moved, taken, *rest)
        with torch.no_grad():
            for w, m in zip(weights, moved, strict=True):
                if m is not w:
                    w.copy_(m)
    _mark_changed(weights)


def raise_failed_steps(device: torch.device | str) -> None:
    """Wait for the steps made on a device, and raise what went wrong with them.

    On a CUDA device a step does not wait: where it fails, the weights stay as they were and all further
    steps go on from there. Call this where the host waits anyway, at a measurement. On the CPU a step
    raises itself.

    Parameters
    ----------
    device : torch.device or str
        Whose steps.

    Raises
    ------
    ValueError
        If a step has failed since this was called last: for elements that are not finite, weights that
        are all zero, a step that ends at the origin, a learning rate that is negative.
    """
    where = torch.device(device)
    if str(where) == "cuda" and torch.cuda.is_available():
        where = torch.device("cuda", torch.cuda.current_device())
    code = take_status(where)
    if code != 0:
        raise ValueError(STEP_ERRORS[code])


def _check_vectors(weights: Tensor, grad: Tensor) -> None:
    require_float("weights", weights)
    if grad.dtype is not weights.dtype:
        raise TypeError(f"grad: the dtype must be that of weights, {weights.dtype}, not {grad.dtype}")
    if grad.is_sparse:
        raise TypeError("grad: must be dense, not sparse")
    if weights.ndim != 1 or weights.shape != grad.shape:
        raise ValueError(
            "weights and grad: both must have the same shape [D], "
            f"not {list(weights.shape)} and {list(grad.shape)}"
        )
    if not (weights.is_contiguous() and grad.is_contiguous()):
        raise ValueError("weights and grad: both must be contiguous")
    if weights.device != grad.device:
        raise ValueError(f"grad: must lie on the device of weights, {weights.device}, not {grad.device}")
    if not weights.is_meta:
        kernel_for("projected_sgd_step", "weights", weights)
