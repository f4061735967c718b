"""Checks that every public function makes at its door; torch is loaded by those of tensors alone."""

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

# A vector that was normalized in float32 passes; it is normalized again in float64.
_NORM_TOLERANCE = 1e-6


def as_tensor(name: str, value: Any) -> "torch.Tensor":
    """Return a tensor that shares memory with the tensor or array ``value``."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            value = value.copy()
        return torch.from_numpy(value)
    raise TypeError(f"{name}: must be a torch tensor or a numpy array, not {type(value).__name__}")


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


def require_points(points: "torch.Tensor") -> None:
    """Raise unless ``points`` is a float tensor [..., n, D] with n >= 1 and D >= 1."""
    require_float("points", points)
    if points.ndim < 2 or points.shape[-1] < 1 or points.shape[-2] < 1:
        raise ValueError(
            f"points: the shape must be [..., n, D] with n >= 1 and D >= 1, not {list(points.shape)}"
        )


def require_ks(ks: Sequence[int], n: int, name: str = "ks") -> list[int]:
    """Return ``ks`` as a list of ints, all of them between 1 and n - 1."""
    values = [int(k) for k in ks]
    if not values:
        raise ValueError(f"{name}: at least one number of neighbors is needed")
    for k, given in zip(values, ks, strict=True):
        if k != given or not 1 <= k <= n - 1:
            raise ValueError(
                f"{name}: {given} is not a number of neighbors among {n} points; "
                f"integers from 1 to {n - 1} are allowed (pythermo.default_ks({n}) gives a choice)"
            )
    return values


def require_number(name: str, value: Any) -> float:
    """Return ``value`` as a float, which may be infinite or NaN; a text is no number."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: must be a number, not {value!r}") from None


def require_positive(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is positive and finite."""
    number = require_number(name, value)
    if not (number > 0.0 and math.isfinite(number)):
        raise ValueError(f"{name}: must be positive and finite, not {value}")
    return number


def require_integer(name: str, value: Any, least: int, most: int = 2**62) -> int:
    """Return ``value`` as an int between two bounds, or raise naming the argument."""
    try:
        number = int(value)
        exact = number == value
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise TypeError(f"{name}: must be an integer, not {value!r}")
    if not least <= number <= most:
        raise ValueError(f"{name}: must be an integer from {least} to {most}, not {value}")
    return number


def require_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError naming the argument unless the value is among those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: must be one of {', '.join(allowed)}, not {value!r}")


def require_finite(name: str, values: Floats) -> None:
    """Raise ValueError naming the first element that is NaN or infinite."""
    if not np.isfinite(values).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise ValueError(f"{name}: the element at {index} is not finite")


def unit_rows(name: str, values: ArrayLike) -> Floats:
    """Return rows [..., D] of norm 1 to rounding, or raise naming the row that is far from it."""
    rows = np.asarray(values, dtype=np.float64)
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
