"""Checks that every public function makes at its door; torch is loaded by those of tensors alone."""

import math
import operator
import sys
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

# A vector that was normalized in float32 passes; it is normalized again in float64.
_NORM_TOLERANCE = 1e-6


def as_tensor(name: str, value: Any) -> "torch.Tensor":
    """Return a tensor that shares memory with a tensor or array, or raise naming the argument.

    Refused are the layouts that kernels do not know and arrays whose memory no tensor can share. A copy is
    made of an array that is read-only.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return _plain_tensor(name, value)
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: must be a torch tensor or a numpy array, not {type(value).__name__}")
    array = _plain_array(name, value)
    if not array.flags.writeable:
        array = array.copy()
    if not _can_be_shared(array):
        raise ValueError(
            f"{name}: must be an array whose memory a tensor can share, not one of the dtype {array.dtype!r} "
            f"with the strides {list(array.strides)}; give a copy in the machine's own order of bytes"
        )
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise TypeError(f"{name}: there are no tensors of the dtype {array.dtype}") from None


def as_tensor_to_write(name: str, value: Any) -> "torch.Tensor":
    """Return a tensor through which a tensor or array can be changed in place, or raise by name."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{name}: must be writeable, for it is changed in place")
    tensor = as_tensor(name, value)
    if tensor.requires_grad:
        raise ValueError(f"{name}: must not require a gradient, for it is changed in place")
    return tensor


def as_tensor_to_read(name: str, value: Any) -> "torch.Tensor":
    """Return a tensor of what a tensor or array holds: its memory where it can be shared, else a copy."""
    if isinstance(value, np.ndarray):
        value = _plain_array(name, value)
        if not _can_be_shared(value):
            value = value.astype(value.dtype.newbyteorder("="), order="C")
    return as_tensor(name, value)


def as_floats(name: str, values: Any) -> Floats:
    """Return an array in float64 of what an array, a tensor, a number or a list of numbers holds."""
    array = as_numbers(name, values)
    floats: Floats = np.asarray(array, dtype=np.float64)
    return floats


def as_numbers(name: str, values: Any) -> NDArray[Any]:
    """Return a plain array of real numbers, or raise naming the argument."""
    if "torch" in sys.modules and isinstance(values, sys.modules["torch"].Tensor):
        values = _plain_tensor(name, values).detach()
        require_values(name, values)
        values = (values.double() if values.is_floating_point() else values).cpu().numpy()
    for part in values if isinstance(values, list | tuple) else ():
        if isinstance(part, np.ma.MaskedArray):
            _plain_array(name, part)
    if not isinstance(values, np.ndarray):
        try:
            values = np.asarray(values)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{name}: must be an array of numbers: {error}") from None
    array = _plain_array(name, values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: must hold real numbers, not those of the dtype {array.dtype}")
    return array


def _plain_tensor(name: str, tensor: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor that is not of a user's class, or raise where its memory is not all that it says."""
    import torch

    if type(tensor) is not torch.Tensor and isinstance(tensor, torch.masked.MaskedTensor):
        raise TypeError(f"{name}: must not be a masked tensor; leave out what is masked, or fill it")
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else tensor.layout
        raise TypeError(f"{name}: must be a dense tensor, not sparse, nested or quantized ({kind})")
    # While torch compiles a function it knows no such views.
    if not torch.compiler.is_compiling() and (tensor.is_neg() or tensor.is_conj()):
        raise ValueError(f"{name}: must not be a lazily negated view; give its resolve_neg()")
    if type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter:
        return tensor
    # Others than those that torch wraps for its own use, at compilation for instance.
    wraps = type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    return tensor if wraps else tensor.as_subclass(torch.Tensor)


def _plain_array(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that is not of a subclass, or raise if some of it is masked."""
    if isinstance(array, np.ma.MaskedArray):
        count = np.ma.count_masked(array)
        if count > 0:
            raise ValueError(
                f"{name}: {count} elements are masked; leave out what they belong to, or fill them"
            )
        return np.asarray(array.data)
    return np.asarray(array)


def _can_be_shared(array: NDArray[Any]) -> bool:
    whole = all(stride >= 0 and stride % max(array.itemsize, 1) == 0 for stride in array.strides)
    return array.dtype.isnative and array.flags.aligned and whole


def like_input(result: "torch.Tensor", given: Any) -> Any:
    """Return ``result`` as the kind of thing that the user gave: tensor or array."""
    return result.numpy() if isinstance(given, np.ndarray) else result


def is_float(dtype: "torch.dtype") -> bool:
    """Return whether a dtype is float32 or float64."""
    return str(dtype) in ("torch.float32", "torch.float64")


def require_float(name: str, tensor: "torch.Tensor") -> None:
    """Raise TypeError unless the dtype is float32 or float64."""
    if not is_float(tensor.dtype):
        raise TypeError(f"{name}: the dtype must be float32 or float64, not {tensor.dtype}")


def require_values(name: str, tensor: "torch.Tensor") -> None:
    """Raise ValueError for a tensor that has a shape alone."""
    if tensor.is_meta:
        raise ValueError(f"{name}: must have values, which a tensor on the device meta has not")


def require_points(points: "torch.Tensor", name: str = "points") -> None:
    """Raise unless ``points`` is a float tensor [..., n, D] with n >= 1 and D >= 1."""
    require_float(name, points)
    if points.ndim < 2 or points.shape[-1] < 1 or points.shape[-2] < 1:
        raise ValueError(
            f"{name}: the shape must be [..., n, D] with n >= 1 and D >= 1, not {list(points.shape)}"
        )


def require_ks(ks: Any, n: int, name: str = "ks") -> list[int]:
    """Return ``ks`` as a list of ints, all of them between 1 and n - 1."""
    if isinstance(ks, str | bytes):
        raise TypeError(f"{name}: must be numbers of neighbors, not {ks!r}")
    try:
        given = list(ks)
    except TypeError:
        raise TypeError(f"{name}: must be a sequence of numbers of neighbors, not {ks!r}") from None
    if not given:
        raise ValueError(f"{name}: at least one number of neighbors is needed")
    return [require_k(k, n, name) for k in given]


def require_k(k: Any, n: int, name: str = "k") -> int:
    """Return a number of neighbors as an int between 1 and n - 1."""
    number = require_integer(name, k, -(2**62))
    if not 1 <= number <= n - 1:
        choice = f" (pythermo.default_ks({n}) gives a choice)" if n > 1 else ""
        raise ValueError(
            f"{name}: {number} is not a number of neighbors among {n} points; "
            f"integers from 1 to {n - 1} are allowed{choice}"
        )
    return number


def require_number(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is one number."""
    if isinstance(value, np.ma.MaskedArray):
        value = _plain_array(name, value)
    try:
        if isinstance(value, str | bytes | bytearray):
            raise TypeError
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name}: must be a number, not {value!r}") from None


def require_positive(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is positive and finite."""
    number = require_number(name, value)
    if not (number > 0.0 and math.isfinite(number)):
        raise ValueError(f"{name}: must be positive and finite, not {value}")
    return number


def require_not_negative(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is finite and not negative."""
    number = require_number(name, value)
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(f"{name}: must be finite and not negative, not {value}")
    return number


def require_integer(name: str, value: Any, least: int, most: int = 2**62) -> int:
    """Return an integer, of Python, numpy or torch, as an int between two bounds, or raise by name."""
    if isinstance(value, np.ma.MaskedArray):
        value = _plain_array(name, value)
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        raise TypeError(f"{name}: must be an int, not {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: must be an integer from {least} to {most}, not {number}")
    return number


def require_open_unit(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is between 0 and 1, and neither."""
    number = require_number(name, value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name}: must be between 0 and 1, not {value}")
    return number


def require_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError naming the argument unless the value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: must be one of {', '.join(allowed)}, not {value!r}")


def require_finite(name: str, values: Floats) -> None:
    """Raise ValueError naming the first element that is NaN or infinite."""
    if not np.isfinite(values).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise ValueError(f"{name}: the element at {index} is not finite")


def unit_rows(name: str, rows: Floats) -> Floats:
    """Return rows [..., D] of norm 1 to rounding, or raise naming the row that is far from it."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    wrong = ~(np.abs(norms[..., 0] - 1.0) <= _NORM_TOLERANCE)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        row = f"row {list(index)}" if index else "the vector"
        norm = norms[..., 0][index]
        remedy = "divide it by that" if norm > 0.0 else "a point of the sphere is required"
        raise ValueError(f"{name}: {row} has the norm {norm:.6g}, which must be 1: {remedy}")
    unit: Floats = rows / norms
    return unit


def require_several(name: str, values: Any) -> Iterable[Any]:
    """Return values one can go through, or raise TypeError naming the argument; a text is none."""
    one_dimensional = isinstance(values, Iterable) and getattr(values, "ndim", 1) == 1
    if not one_dimensional or isinstance(values, str | bytes):
        raise TypeError(f"{name}: must be numbers in a list or an array of one dimension, not {values!r}")
    several: Iterable[Any] = values
    return several
