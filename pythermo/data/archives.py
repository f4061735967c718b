"""Members of tar archives, read into memory.

Not unpacked by pooch: its `Untar` writes file by file where another process may be reading, into folders that
may not be ours to write to, and before Python 3.12 also what leads out of them.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pythermo.data.compressed import Stream, opened

# What an archive may hold besides the members asked for: descriptions, and tar's own headers.
_ELSE = 1 << 22


def read_members(path: Path, most: Mapping[str, int]) -> dict[str, bytes]:
    """Read members of an archive, which may be gzipped.

    Parameters
    ----------
    path : Path
        The archive.
    most : mapping from str to int
        The members that are wanted, each with the most bytes that it may have. No more is decompressed
        than these and 4 MiB for everything else.

    Returns
    -------
    dict from str to bytes
        The contents, in the order of ``most``.

    Raises
    ------
    ValueError
        Naming the file, if it is not a whole tar archive or too large; for a missing, repeated or oversized
        member; for any member that is a link or a device, or whose name leads out of the archive's folder.
    """
    try:
        with opened(path) as file:
            bounded = _Bounded(file, sum(most.values()) + _ELSE)
            found = _read(bounded, most)
            while bounded.read(1 << 20):
                pass  # to the end, where gzip's own checksum stands
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not a whole tar archive ({error})") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error
    for name in most:
        if name not in found:
            raise ValueError(f"{path}: there is no {name} in it")
    return {name: found[name] for name in most}


def read_unpacked(folder: Path, most: Mapping[str, int]) -> dict[str, bytes]:
    """Do as `read_members` with the files that an archive was unpacked to in a folder.

    Raises
    ------
    ValueError
        For a missing or oversized file.
    """
    for name, size in most.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path}: is missing")
        if path.stat().st_size > size:
            raise ValueError(f"{path}: must have at most {size} bytes, not {path.stat().st_size}")
    return {name: (folder / name).read_bytes() for name in most}


class _Bounded:
    """A stream that ends in a ValueError when more than ``most`` bytes are read from it."""

    def __init__(self, file: Stream, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int) -> bytes:
        read = self._file.read(size)
        self._left -= len(read)
        if self._left < 0:
            raise ValueError("holds more bytes than the published archive")
        return read


def _read(file: _Bounded, most: Mapping[str, int]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|") as archive:
        for member in archive:
            _refuse_what_no_data_set_has(member)
            if member.name in found:
                raise ValueError(f"{member.name} is there twice")
            if member.name in most:
                found[member.name] = _contents(archive, member, most[member.name])
    return found


def _refuse_what_no_data_set_has(member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"the member {member.name!r} leads out of the archive's folder")
    if not (member.isreg() or member.isdir()):
        raise ValueError(f"the member {member.name!r} is neither a file nor a folder")


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} must be a file")
    if member.size > most:
        raise ValueError(f"{member.name} must have at most {most} bytes, not {member.size}")
    return file.read()
