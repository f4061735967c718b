"""IDX files, the format of MNIST and Fashion-MNIST."""

import struct
from pathlib import Path

import numpy as np

from pythermo.data.compressed import opened

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array of unsigned bytes, from a file that may be gzipped.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int
        The shape that it must say that it has.

    Returns
    -------
    ndarray
        uint8.

    Raises
    ------
    ValueError
        For another magic number, another shape, too few or too many bytes, damaged compression.

    Notes
    -----
    A file holds two zero bytes, a byte for the type, one for the number of dimensions, each dimension in
    four bytes, most significant first, and the elements, the last dimension fastest.
    Source: http://yann.lecun.com/exdb/mnist/.
    """
    magic = _UNSIGNED_BYTES << 8 | len(shape)
    length = int(np.prod(shape))
    with opened(path) as file:
        header = file.read(4 * (1 + len(shape)))
        if len(header) < 4 * (1 + len(shape)):
            raise ValueError(f"{path}: truncated; the header alone has {4 * (1 + len(shape))} bytes")
        found, *sizes = struct.unpack(f">{1 + len(shape)}I", header)
        if found != magic:
            raise ValueError(f"{path}: the magic number must be {magic:#010x}, not {found:#010x}")
        if tuple(sizes) != shape:
            raise ValueError(f"{path}: must hold an array {list(shape)}, not {sizes}")
        elements = file.read(length + 1)
    if len(elements) != length:
        fewer_or_more = "fewer" if len(elements) < length else "more"
        raise ValueError(f"{path}: holds {fewer_or_more} than the {length} elements of its header")
    return np.frombuffer(elements, np.uint8).reshape(shape)
