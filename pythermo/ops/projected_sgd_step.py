"""Steps of SGD on the sphere, in place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pythermo import _core
from pythermo._checks import as_tensor, require_float, require_positive
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

# Of weights, gradient, learning rate, radius, and a learning rate on the device or None.
_Step = Callable[[torch.Tensor, torch.Tensor, float, float, torch.Tensor | None], None]

# What StepError of csrc/cuda/projected_sgd_step.hpp says.
_STEP_ERRORS = {
    1: "grad: weights, gradient and the squared length of the step must be finite",
    2: "weights: all elements are zero; a point of the sphere is required",
    3: "grad: the step ends in the center of the sphere, which has no direction",
    4: "weights: their norm is too far from the radius for their dtype",
    5: "lr: must be positive and finite in the weights' dtype",
}


def _register_step(name: str) -> _Step:
    """Register step kernels as the operator ``pythermo::name_`` and return a function that runs it.

    On the CPU a step raises at once. On CUDA a learning rate [1] in float64 may lie on the device, nothing is
    waited for, and `raise_failed_steps` tells what went wrong.
    """

    @kernel("cpu", name)
    def _(
        weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float, lr_there: torch.Tensor | None
    ) -> None:
        rate = lr if lr_there is None else float(lr_there)
        getattr(_core, name)(to_dlpack(weights), to_dlpack(grad), rate, radius, torch.get_num_threads())

    @kernel("cuda", name)
    def _(
        weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float, lr_there: torch.Tensor | None
    ) -> None:
        with torch.cuda.device_of(weights):
            parts = workspace("step", CUDA.native.step_workspace_size(), weights)
            arguments = CUDA.native.StepArguments(
                lr,
                to_dlpack(parts[:0] if lr_there is None else lr_there),
                radius,
                to_dlpack(parts),
                to_dlpack(status_word(weights.device)),
                stream_of(weights),
                CUDA.step_threads,
            )
            getattr(CUDA.native, name)(to_dlpack(weights), to_dlpack(grad), arguments)

    _library.define(
        f"{name}_(Tensor(a!) weights, Tensor grad, float lr, float radius, Tensor? lr_on_device=None) -> ()"
    )

    def on_device(
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float,
        radius: float,
        lr_on_device: torch.Tensor | None = None,
    ) -> None:
        KERNELS[weights.device.type, name](weights, grad, lr, radius, lr_on_device)
        # A graph that saved the old values must not be gone back through with the new ones.
        if not weights.is_inference():
            torch.autograd.graph.increment_version(weights)

    def fake(*arguments: Any) -> None:
        return None

    def no_derivative(weights: torch.Tensor, grad: torch.Tensor, *others: Any) -> None:
        _refuse_derivative(f"{name}_", weights, grad)
        with torch._C._AutoDispatchBelowAutograd():
            operator(weights, grad, *others)

    for key in ("CPU", "CUDA"):
        _library.impl(f"{name}_", on_device, key)
    _library.impl(f"{name}_", no_derivative, "Autograd")
    torch.library.register_fake(f"pythermo::{name}_", fake, lib=_library)
    operator = getattr(torch.ops.pythermo, f"{name}_").default

    def run(weights: torch.Tensor, grad: torch.Tensor, *others: Any) -> None:
        # On small vectors torch's dispatcher takes as long as the step: plain tensors do without.
        if type(weights) is torch.Tensor and not weights.is_meta and not torch.compiler.is_compiling():
            _refuse_derivative(f"{name}_", weights, grad)
            on_device(weights, grad, *others)
        else:
            operator(weights, grad, *others)

    return run


def _refuse_derivative(name: str, weights: torch.Tensor, grad: torch.Tensor) -> None:
    if (weights.requires_grad or grad.requires_grad) and torch.is_grad_enabled():
        raise RuntimeError(
            f"{name}: the step has no derivative; call it under torch.no_grad() or with detached tensors"
        )


_projected_step = _register_step("projected_sgd_step")
_exponential_step = _register_step("exponential_sgd_step")


def _checked_step(step: _Step, weights: Any, grad: Any, lr: float | torch.Tensor, radius: float) -> Any:
    """Check what the kernel does not, make the step in place and return ``weights`` as given."""
    if isinstance(weights, np.ndarray) and not weights.flags.writeable:
        raise ValueError("weights: must be writeable, for the step is made in place")
    w, g = as_tensor("weights", weights), as_tensor("grad", grad)
    _check_vectors(w, g)
    radius = require_positive("radius", radius)
    if isinstance(lr, torch.Tensor) and lr.device == w.device and not w.is_cpu:
        if lr.numel() != 1:
            raise ValueError(f"lr: must be one number, not a tensor of shape {list(lr.shape)}")
        step(w, g, 0.0, radius, lr.detach().double().reshape(1))
    else:
        step(w, g, require_positive("lr", lr), radius, None)
    return weights


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
        are all zero, a step that ends at the origin, a learning rate that is not positive.
    """
    where = torch.device(device)
    if str(where) == "cuda" and torch.cuda.is_available():
        where = torch.device("cuda", torch.cuda.current_device())
    code = take_status(where)
    if code != 0:
        raise ValueError(_STEP_ERRORS[code])


def _check_vectors(weights: torch.Tensor, grad: torch.Tensor) -> None:
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


def projected_sgd_step_(weights: Any, grad: Any, lr: float | torch.Tensor, radius: float = 1.0) -> Any:
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
    weights : Tensor or array [D]
        A point other than the origin, usually of norm ``radius``; float32 or float64, contiguous.
        Overwritten.
    grad : Tensor or array [D]
        The gradient there, of the same dtype and device; not changed.
    lr : float or Tensor [] or [1]
        Learning rate, positive. On a sphere of radius r the effective one is ``lr / r**2``. A tensor on the
        weights' CUDA device is read there.
    radius : float
        Radius of the sphere, positive.

    Returns
    -------
    Tensor or array [D]
        ``weights`` itself.

    Raises
    ------
    ValueError
        For a NaN or infinite element (named by its index), weights that are all zero, a step that ends
        at the origin, ``lr`` or ``radius`` that are not positive, shapes that differ, no contiguity.
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
    """
    return _checked_step(_projected_step, weights, grad, lr, radius)


def exponential_sgd_step_(weights: Any, grad: Any, lr: float | torch.Tensor, radius: float = 1.0) -> Any:
    """Make one Riemannian SGD step in place: along a great circle by the arc length ``lr * |t|``.

    Here t is the part of the gradient that is tangent to the sphere at the weights; the new weights are
    ``radius * (cos(a) w/|w| - sin(a) t/|t|)`` with the angle ``a = lr * |t| / radius``. It agrees with
    `projected_sgd_step_` to second order in ``lr``. In floating point a gradient whose radial part is c
    times its tangent part, which that of a scale-invariant loss has not, costs log10(c) digits.

    The parameters ``weights``, ``grad``, ``lr`` and ``radius``, results, errors and passes over memory are
    those of `projected_sgd_step_`. Source:
    arXiv 2505.23489; the retraction is the exponential map of the sphere.
    """
    return _checked_step(_exponential_step, weights, grad, lr, radius)
