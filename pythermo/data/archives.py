"""Members of tar archives, read into memory: nothing is written to the disk."""

import gzip
import tarfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pythermo.data.compressed import opened

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
        For what is no such archive, truncated, damaged or too large; for a missing, repeated or oversized
        member; for any member that is a link or a device, or whose name leads out of the archive's folder.
    """
    found: dict[str, bytes] = {}
    with opened(path) as file:
        bounded = _Bounded(file, sum(most.values()) + _ELSE, path)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as archive:
                for member in archive:
                    _refuse_what_no_data_set_has(member, path)
                    if member.name in found:
                        raise ValueError(f"{path}: {member.name} is there twice")
                    if member.name in most:
                        found[member.name] = _contents(archive, member, most[member.name], path)
        except tarfile.TarError as error:
            raise ValueError(f"{path}: not a whole tar archive ({error})") from error
        while bounded.read(1 << 20):
            pass  # to the end, where gzip's own checksum stands
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

    def __init__(self, file: gzip.GzipFile | BufferedReader, most: int, path: Path) -> None:
        self._file, self._left, self._path = file, most, path

    def read(self, size: int) -> bytes:
        read = self._file.read(size)
        self._left -= len(read)
        if self._left < 0:
            raise ValueError(f"{self._path}: holds more bytes than the published archive")
        return read


def _refuse_what_no_data_set_has(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{path}: the member {member.name!r} leads out of the archive's folder")
    if not (member.isreg() or member.isdir()):
        raise ValueError(f"{path}: the member {member.name!r} is neither a file nor a folder")


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int, path: Path) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{path}: {member.name} must be a file")
    if member.size > most:
        raise ValueError(f"{path}: {member.name} must have at most {most} bytes, not {member.size}")
    return file.read()
