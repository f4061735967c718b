"""The pickles of the Python archives of CIFAR, read without running them.

`pickle` calls whatever a file names. Here the file's own instructions are followed on a stack of plain
values: nothing is imported or called, and NumPy's arrays stay the bytes and the shape that they were written
as. Memory is bounded by the size of the file.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

_MARK = object()
_ARRAY, _DTYPE, _BYTES = "array", "dtype", "bytes"

# What a pickled array names, under NumPy 1 and 2, and what is made of it.
_NAMES = {
    "numpy.core.multiarray _reconstruct": _ARRAY,
    "numpy._core.multiarray _reconstruct": _ARRAY,
    "numpy ndarray": _ARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _BYTES,
}


@dataclass(frozen=True)
class _Name:
    kind: str


@dataclass
class _Object:
    """An array or a dtype: what it was made from, and its state."""

    kind: str
    arguments: tuple[Any, ...]
    state: tuple[Any, ...] = ()


def read_pickle(data: bytes) -> dict[str, Any]:
    """Read a dictionary of numbers, strings, lists and arrays of unsigned bytes.

    Parameters
    ----------
    data : bytes
        A pickle of protocol 2, as Python 2 wrote the published ones, to 4.

    Returns
    -------
    dict from str to object
        Byte strings as str, one character a byte; arrays as ndarray of uint8.

    Raises
    ------
    ValueError
        For anything else, above all for a pickle that names something to be called.
    """
    try:
        found = _follow(data)
        if not isinstance(found, dict):
            raise TypeError(f"a dict expected, not {type(found).__name__}")
        return {
            key: _as_array(value) if isinstance(value, _Object) else value for key, value in found.items()
        }
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeError) as error:
        raise ValueError(f"not a well-formed pickle ({type(error).__name__}: {error})") from error


def _follow(data: bytes) -> Any:
    """Return the value that a pickle's instructions leave."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    value: Any
    for opcode, value, _ in pickletools.genops(data):
        match opcode.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "BININT" | "BININT1" | "BININT2" | "SHORT_BINSTRING" | "BINSTRING":
                stack.append(value)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(value)
            case "BINBYTES" | "SHORT_BINBYTES":
                stack.append(value.decode("latin-1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[opcode.name]())
            case "MARK":
                stack.append(_MARK)
            case "TUPLE":
                stack.append(tuple(_to_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(_last(stack, int(opcode.name[-1]))))
            case "APPEND" | "APPENDS":
                items = _last(stack, 1) if opcode.name == "APPEND" else _to_mark(stack)
                _top(stack, list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = _last(stack, 2) if opcode.name == "SETITEM" else _to_mark(stack)
                if any(
                    type(key) is not str for key in items[::2]
                ):  # to hash what is nested can take for ever
                    raise TypeError("a key that is no text")
                _top(stack, dict).update(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_known(value))
            case "STACK_GLOBAL":
                stack.append(_known(" ".join(_last(stack, 2))))
            case "REDUCE":
                name, arguments = _last(stack, 2)
                stack.append(_made(name, arguments))
            case "BUILD":
                (state,) = _last(stack, 1)
                _top(stack, _Object).state = state
            case "STOP":
                return stack[-1]
            case "PROTO" | "FRAME":
                pass
            case other:
                raise ValueError(f"the pickle uses {other}, which no published one does")
    raise ValueError("the pickle has no end")


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise IndexError("too few values on the stack")
    taken = stack[-count:]
    del stack[-count:]
    return taken


def _to_mark(stack: list[Any]) -> list[Any]:
    taken = []
    while (value := stack.pop()) is not _MARK:
        taken.append(value)
    return taken[::-1]


def _top(stack: list[Any], kind: type) -> Any:
    if not isinstance(stack[-1], kind):
        raise TypeError(f"{kind.__name__} expected")
    return stack[-1]


def _known(name: str) -> _Name:
    if name not in _NAMES:
        raise ValueError(f"the pickle names '{name}', which data have no use for; it was not run")
    return _Name(_NAMES[name])


def _made(name: Any, arguments: Any) -> Any:
    """Return what stands for the result of a call in the pickle."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of what is no name")
    return arguments[0] if name.kind == _BYTES else _Object(name.kind, arguments)


def _as_array(pickled: _Object) -> np.ndarray:
    """Return an array of the shape, the order and the bytes that its state holds."""
    if pickled.kind != _ARRAY or len(pickled.state) != 5:
        raise ValueError("the pickle holds something that is no array")
    _, shape, dtype, fortran, elements = pickled.state
    if dtype.kind != _DTYPE or dtype.arguments[0] not in ("u1", "|u1"):
        raise ValueError("the pickled array must be of unsigned bytes")
    flat = np.frombuffer(elements.encode("latin-1"), np.uint8)
    return flat.reshape(shape, order="F" if fortran else "C")
