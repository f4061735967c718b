"""The pickles of CIFAR's Python archives, read by `pickle.Unpickler`; nothing that they name is run.

`pickletools` reads the instructions first: for some, which no published batch has, pickle's own reader takes
memory, time or stack without bound.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np

# What Python 2 and 3 write for dictionaries of text, numbers, lists and an array.
_TEXTS_AND_NAMES = {
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
    *("GLOBAL", "STACK_GLOBAL"),
}
_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "REDUCE", "BUILD"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *_TEXTS_AND_NAMES,
}
_MOST_TUPLES = 64  # an array has eight

_NDARRAY = "numpy.ndarray"

# What pickle and pickletools raise; they warn of escapes in a name, which may be an error too.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, DeprecationWarning)


def read_pickle(data: bytes) -> dict[str, Any]:
    """Read a dictionary of numbers, text, lists and arrays of unsigned bytes.

    Parameters
    ----------
    data : bytes
        A pickle of protocol 2 to 4: Python 2 wrote the published ones in protocol 2.

    Returns
    -------
    dict from str to object
        Python 2's strings as bytes, but for the keys; arrays as ndarray of uint8.

    Raises
    ------
    ValueError
        For anything else, above all for a pickle that names something to be called. Nothing is run, and no
        more memory is taken than the file's length times a constant.
    """
    try:
        _check_instructions(data)
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(found, dict):
            raise TypeError(f"a dict expected, not {type(found).__name__}")
        return {_text(key): _plain(value) for key, value in found.items()}
    except pickle.UnpicklingError as error:
        raise ValueError(f"the pickle is refused: {error}") from error
    except _MALFORMED as error:
        raise ValueError(f"not a well-formed pickle ({type(error).__name__}: {error})") from error


def _check_instructions(data: bytes) -> None:
    """Refuse instructions that no published batch has, and bytes after the last one.

    Tuples are few, and only text and names are used twice: hashing what is nested could take forever. A
    memo's index sets how much memory the memo takes.
    """
    tuples, previous, end = 0, "", 0
    memo: dict[int, str] = {}  # the instruction that made each stored value
    argument: Any
    for opcode, argument, position in pickletools.genops(data):
        name, end = opcode.name, (position or 0) + 1
        if name not in _INSTRUCTIONS:
            raise pickle.UnpicklingError(f"it uses {name}, which no published one does")
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if name == "MEMOIZE" else argument
            if index > len(data):
                raise pickle.UnpicklingError(f"it stores a value at {index}, beyond its own length")
            memo[index] = previous
            continue
        if name in ("BINGET", "LONG_BINGET") and memo.get(argument) not in _TEXTS_AND_NAMES:
            raise pickle.UnpicklingError("it uses a value twice that is neither text nor a name")
        tuples += name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            raise pickle.UnpicklingError(f"it has more than {_MOST_TUPLES} tuples")
        previous = name
    if end < len(data):
        raise pickle.UnpicklingError(f"{len(data) - end} bytes follow its end")


class _Unpickler(pickle.Unpickler):
    """Refuses all names but those of an array, for which it has something that takes bytes and a shape.

    NumPy's own would take other classes, objects as elements and any shape without elements.
    """

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _Array
            case "numpy", "ndarray":
                return _NDARRAY
            case "numpy", "dtype":
                return _UnsignedByte
            case "_codecs", "encode":
                # A new function each time: a pickle may set attributes of what it is given.
                return lambda text, encoding: text.encode("latin-1")
        raise pickle.UnpicklingError(
            f"it names '{module} {name}', which data have no use for; it was not run"
        )


class _UnsignedByte:
    """What stands for NumPy's dtype of one unsigned byte; a pickle that asks for another is refused."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        if name not in (b"u1", "u1"):
            raise pickle.UnpicklingError("its array must be of unsigned bytes")

    def __setstate__(self, state: object) -> None:
        """Take the order of bytes, of which there is one."""


class _Array:
    """What stands for an array that NumPy's ``_reconstruct`` begins and the array's state completes."""

    values: np.ndarray | None = None

    def __init__(self, kind: object, *_: object) -> None:
        if kind != _NDARRAY:
            raise pickle.UnpicklingError("its array must be NumPy's ndarray")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, elements = state
        if not isinstance(dtype, _UnsignedByte) or not isinstance(elements, bytes):
            raise pickle.UnpicklingError("its array must be of unsigned bytes")
        self.values = np.frombuffer(elements, np.uint8).reshape(shape, order="F" if fortran else "C")


def _text(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if not isinstance(key, str):
        raise TypeError("a key that is no text")
    return key


def _plain(value: object) -> object:
    if not isinstance(value, _Array):
        return value
    if value.values is None:
        raise pickle.UnpicklingError("its array has no elements")
    return value.values
