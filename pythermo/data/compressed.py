"""Bytes of files that may be gzipped; what is wrong with the compression is a ValueError."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """Open a file to be read, decompressed if it is gzipped; the end of a gzipped one is checked.

    Raises
    ------
    ValueError
        From inside the ``with``, naming the file, if it is truncated or damaged.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: truncated or damaged ({error})") from error
