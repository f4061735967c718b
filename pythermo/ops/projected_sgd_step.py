"""Steps of SGD, on the sphere or with weight decay in full space, in place."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from pythermo import _core
from pythermo._checks import as_tensor, require_float, require_not_negative, require_positive
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

_library = torch.library.Library("pythermo", "DEF")

_Tensors = Sequence[Tensor]
_Grads = Sequence[Tensor | None]

# Of weights, gradient, learning rate, radius or weight decay, and a learning rate on the device or None.
_Step = Callable[[Tensor, Tensor, float, float, Tensor | None], None]

# What native code, and torch for tensors that it can not hand over, raise before a weight has changed.
_REFUSED = (BufferError, RuntimeError, TypeError, ValueError)

# What StepError of csrc/projected_sgd_step.hpp says.
STEP_ERRORS = {
    1: "grad: weights, gradient and the squared length of the step must be finite",
    2: "weights: all elements are zero; a point of the sphere is required",
    3: "grad: the step ends in the center of the sphere, which has no direction",
    4: "weights: their norm is too far from the radius for their dtype",
    5: "lr: must be finite in the weights' dtype and not negative",
    6: "weight_decay: with this learning rate the step takes the weights through the origin or to infinity, "
    "and their norm is lost; both must be smaller",
}


def _register_step(name: str, parameter: str) -> _Step:
    """Register step kernels as the operator ``pythermo::name_`` and return a function that runs it.

    What it takes beside the learning rate is the parameter of that name.

    On the CPU a step raises at once. On CUDA a learning rate [1] in float64 may lie on the device, nothing is
    waited for, and `raise_failed_steps` tells what went wrong.
    """

    @kernel("cpu", name)
    def _(weights: _Tensors, grads: _Grads, lr: float, value: float, lr_there: Tensor | None) -> None:
        rate = lr if lr_there is None else float(lr_there)
        getattr(_core, name)(*_capsules(weights, grads), rate, value, torch.get_num_threads())

    @kernel("cuda", name)
    def _(weights: _Tensors, grads: _Grads, lr: float, value: float, lr_there: Tensor | None) -> None:
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


def _capsules(weights: _Tensors, grads: _Grads) -> tuple[list[Any], list[Any]]:
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


def _mark_changed(tensors: _Tensors) -> None:
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


def _checked_step(name: str, weights: Any, grad: Any, lr: float | Tensor, value: float) -> Any:
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


def step_together(name: str, weights: _Tensors, grads: _Grads, lr: float | Tensor, value: float) -> None:
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
        moved, taken = _laid_out_alike(weights, grads)
        if _same(moved, weights) and _same(taken, grads):
            raise
        run(moved, taken, *rest)
        with torch.no_grad():
            for w, m in zip(weights, moved, strict=True):
                if m is not w:
                    w.copy_(m)
    _mark_changed(weights)


def _same(some: _Grads, others: _Grads) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))


def _laid_out_alike(weights: _Tensors, grads: _Grads) -> tuple[_Tensors, _Grads]:
    """Return weights without gaps in memory and gradients in their order: themselves, or copies."""
    moved, taken = list(weights), list(grads)
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        _require_alike("weights", i, w, weights[0])
        if not w.is_contiguous() and not _is_dense(i, w):
            moved[i] = w.contiguous()
        if g is None:
            continue
        _require_alike("grad", i, g, weights[0])
        if g.shape == w.shape and not _lie_alike(moved[i], g):
            taken[i] = torch.empty_like(moved[i]).copy_(g)
    _require_apart(weights, [i for i, (w, m) in enumerate(zip(weights, moved, strict=True)) if m is not w])
    return moved, taken


def _require_alike(name: str, index: int, tensor: Tensor, first: Tensor) -> None:
    """Raise unless a tensor is not sparse and has the dtype and device of the first."""
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: tensor {index} must be dense, not {_layout_name(tensor)}")
    if tensor.dtype is not first.dtype:
        raise TypeError(
            f"{name}: the dtype of tensor {index} must be that of the first weights, {first.dtype}, "
            f"not {tensor.dtype}"
        )
    if tensor.device != first.device:
        raise ValueError(
            f"{name}: tensor {index} must lie on the device of the first weights, {first.device}, "
            f"not {tensor.device}"
        )


def _layout_name(tensor: Tensor) -> str:
    return "sparse" if tensor.is_sparse else str(tensor.layout).removeprefix("torch.")


def _lie_alike(weights: Tensor, grad: Tensor) -> bool:
    """Return whether dense weights and a gradient of the same shape have the same order in memory."""
    return weights.stride() == grad.stride() or (weights.is_contiguous() and grad.is_contiguous())


def _is_dense(index: int, tensor: Tensor) -> bool:
    """Return whether a tensor's elements lie side by side; raise if two of them share memory."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride <= reach:
            raise ValueError(f"weights: elements of tensor {index} share memory; each must have its own")
        reach += stride * (size - 1)
    return reach == tensor.numel() - 1


def _require_apart(weights: _Tensors, copied: list[int]) -> None:
    """Raise if weights that have gaps share memory with others; what has none the kernel looks at."""
    memories = {weights[i].untyped_storage().data_ptr() for i in copied}
    taken: dict[int, Tensor] = {}
    for i, w in enumerate(weights):
        storage = w.untyped_storage()
        if storage.data_ptr() not in memories:
            continue
        room = torch.zeros(storage.nbytes() // w.element_size(), dtype=torch.bool)
        own = taken.setdefault(storage.data_ptr(), room).as_strided(w.shape, w.stride(), w.storage_offset())
        if own.any():
            raise ValueError(f"weights: tensor {i} shares memory with another; each must have its own")
        own.fill_(True)


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
    return _checked_step("projected_sgd_step", weights, grad, lr, require_positive("radius", radius))


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
    return _checked_step("exponential_sgd_step", weights, grad, lr, require_positive("radius", radius))


def fixed_lr_step_(weights: Any, grad: Any, lr: float | Tensor, weight_decay: float) -> Any:
    """Make one step of SGD with weight decay in place: ``w <- w - lr * (grad + weight_decay * w)``.

    For weights of a scale-invariant loss, which are free to find their norm: weight decay is the pressure of
    the ideal gas that they are, and half the squared norm its volume. At a fixed learning rate the norm r
    obeys ``2 * weight_decay * r**4 = lr * r**2 * |grad|**2`` to first order.

    Two passes over memory: the first reads weights and gradient and checks them, the second writes the new
    weights. A gradient that is zero everywhere leaves the weights to their decay.

    Parameters
    ----------
    weights, grad, lr
        As of `projected_sgd_step_`, of any norm other than zero.
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
    return _checked_step(
        "fixed_lr_step", weights, grad, lr, require_not_negative("weight_decay", weight_decay)
    )


def fixed_elr_step_(weights: Any, grad: Any, lr: float | Tensor, weight_decay: float) -> Any:
    """Make one step of SGD with weight decay at an effective learning rate, in place.

    ``w <- w - lr * |w|**2 * (grad + weight_decay * w)``: the direction ``w / |w|``
    moves as on the unit sphere at this learning rate, whatever the norm r, which obeys
    ``2 * weight_decay * r**2 = lr * r**2 * |grad|**2`` to first order.

    The parameters ``weights``, ``grad``, ``lr`` and ``weight_decay``, results, errors and passes over memory
    are those of `fixed_lr_step_`, with ``lr * |w|**2 * weight_decay`` below 1. Source: arXiv 2511.07308.

    Examples
    --------
    >>> import torch
    >>> fixed_elr_step_(torch.tensor([2.0, 0.0]), torch.tensor([0.0, -1.0]), lr=0.125, weight_decay=0.5)
    tensor([1.5000, 0.5000])
    """
    return _checked_step(
        "fixed_elr_step", weights, grad, lr, require_not_negative("weight_decay", weight_decay)
    )
