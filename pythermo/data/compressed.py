"""Bytes of files that may be gzipped.

Not pooch's `Decompress`, which writes a copy beside the file: what a system's package installed lies where
users may not write.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

_GZIP = b"\x1f\x8b"

Stream = gzip.GzipFile | BufferedReader


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file for reading, decompressed if it is gzipped; the end of a gzipped one is checked.

    Raises
    ------
    ValueError
        From inside the ``with``, if the file is truncated or damaged. The reader adds the file's name, as it
        does to its own errors.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"truncated or damaged ({error})") from error
