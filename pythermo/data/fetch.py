"""Bring the files of a data set to this machine: checked, and either whole or not at all."""

import hashlib
import os
import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from pythermo.data.sources import DATA_SETS, DataSet, Edition, PublishedFile, data_folder

_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 60.0


def fetch(name: str, source: str | Path | None = None, root: str | Path | None = None) -> list[Path]:
    """Download the files of a data set, or copy them.

    Parameters
    ----------
    name : {"fashion-mnist", "cifar10", "cifar100"}
        The data set.
    source : str or path, optional
        Instead of where it is published: a URL or path of the one file of a data set that has one, or of the
        folder of its files.
    root : path, optional
        Folder for the files; where `pythermo.data.load` looks, if not given.

    Returns
    -------
    list of Path
        The files. One that is there with the right checksum is not brought again.

    Raises
    ------
    ValueError
        For an unknown name, a file of another name, and for what has not the published checksum or layout:
        of that nothing is kept.
    FileNotFoundError
        For a ``source`` that is not there.
    ConnectionError
        For an interrupted download. What has arrived is kept beside the file's place, with the ending
        ``.part``, and the next call goes on from there.
    """
    if name == "digits":
        raise ValueError("name: digits comes with scikit-learn; there is nothing to fetch")
    if name not in DATA_SETS:
        raise ValueError(f"name: '{name}' is not a known data set; known: {', '.join(DATA_SETS)}")
    edition, places = _places(DATA_SETS[name], None if source is None else str(source))
    folder = data_folder() if root is None else Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    for file, place in zip(edition, places, strict=True):
        _bring(file, place, folder / file.name)
    return [folder / file.name for file in edition]


def _places(data_set: DataSet, source: str | None) -> tuple[Edition, list[str]]:
    """Return an edition and the URL or path of each of its files."""
    if source is None:
        source = data_set.url
    for edition in data_set.editions:
        if source.rpartition("/")[2] in [file.name for file in edition]:
            if len(edition) > 1:
                raise ValueError(f"--from: must be the folder of all {len(edition)} files, not {source}")
            return edition, [source]
    if not _is_url(source):
        return _places_in_folder(data_set, Path(source))
    first = data_set.editions[0]
    return first, [f"{source.removesuffix('/')}/{file.name}" for file in first]


def _places_in_folder(data_set: DataSet, folder: Path) -> tuple[Edition, list[str]]:
    names = [[file.name for file in edition] for edition in data_set.editions]
    wanted = " or ".join(", ".join(edition) for edition in names)
    if folder.is_file():
        raise ValueError(f"--from: the file must be named {wanted}, not {folder.name}")
    for edition in data_set.editions:
        if all((folder / file.name).is_file() for file in edition):
            return edition, [str(folder / file.name) for file in edition]
    raise FileNotFoundError(f"--from: {folder} is no folder that holds {wanted}")


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _bring(file: PublishedFile, place: str, path: Path) -> None:
    """Let a file appear at its path, if it is as published."""
    if path.is_file() and _md5(path) == file.md5:
        return
    # What a download has begun is not touched by a copy.
    part = path.with_name(f"{path.name}.{'part' if _is_url(place) else 'copy'}")
    try:
        if _is_url(place):
            _download(place, part, file)
        else:
            shutil.copyfile(place, part)
        _check(part, file, place)
    except (ConnectionError, KeyboardInterrupt):
        raise  # the next call goes on
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)


def _check(part: Path, file: PublishedFile, place: str) -> None:
    found = _md5(part)
    if found != file.md5:
        size = part.stat().st_size
        raise ValueError(
            f"{place}: refused; it has MD5 {found} and {size} bytes, "
            f"the published file {file.md5} and {file.size}"
        )
    file.read(part)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, part: Path, file: PublishedFile) -> None:
    """Append to ``part`` what it lacks, or write it anew where the server sends all."""
    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            have = have if response.status == 206 else 0
            with (
                part.open("ab" if have else "wb") as written,
                tqdm(
                    total=file.size, initial=have, unit="B", unit_scale=True, desc=file.name, disable=None
                ) as bar,
            ):
                while block := response.read(_BLOCK):
                    have += len(block)
                    if have > file.size:
                        raise ValueError(f"{url}: refused; it is larger than the published {file.size} bytes")
                    written.write(block)
                    bar.update(len(block))
            if response.length:
                raise ConnectionError(f"the connection ended {response.length} bytes too early")
    except HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)  # it is longer than what the server has
        raise ConnectionError(f"{url}: {error}") from error
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise ConnectionError(f"{url}: {error}; called again, it goes on from there") from error
