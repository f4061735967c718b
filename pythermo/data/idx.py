"""IDX files, the format of MNIST and Fashion-MNIST."""

import math
import struct
from pathlib import Path

import numpy as np

from pythermo.data.compressed import Stream, opened

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array of unsigned bytes, from a file that may be gzipped.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int
        The shape that its header must give.

    Returns
    -------
    ndarray
        uint8.

    Raises
    ------
    ValueError
        Naming the file, for another magic number, another shape, too few or too many bytes, damaged
        compression.

    Notes
    -----
    A file holds two zero bytes, a byte for the type, one for the number of dimensions, each dimension in
    four bytes, most significant first, and the elements, the last dimension fastest.
    Source: http://yann.lecun.com/exdb/mnist/.
    """
    try:
        with opened(path) as file:
            return _read(file, shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(file: Stream, shape: tuple[int, ...]) -> np.ndarray:
    magic = _UNSIGNED_BYTES << 8 | len(shape)
    length, header_length = math.prod(shape), 4 * (1 + len(shape))
    header = file.read(header_length)
    if len(header) < header_length:
        raise ValueError(f"truncated; the header alone has {header_length} bytes")
    found, *sizes = struct.unpack(f">{1 + len(shape)}I", header)
    if found != magic:
        raise ValueError(f"the magic number must be {magic:#010x}, not {found:#010x}")
    if tuple(sizes) != shape:
        raise ValueError(f"must hold an array {list(shape)}, not {sizes}")
    elements = file.read(length + 1)
    if len(elements) != length:
        fewer_or_more = "fewer" if len(elements) < length else "more"
        raise ValueError(f"holds {fewer_or_more} than the {length} elements of its header")
    return np.frombuffer(elements, np.uint8).reshape(shape)
