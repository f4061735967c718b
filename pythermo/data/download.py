"""Bring the files of a data set to this machine with pooch: checked, and either whole or not at all."""

import io
import shutil
from functools import partial
from pathlib import Path

from pythermo._progress import ProgressBar
from pythermo.data.sources import DATA_SETS, DataSet, Edition, PublishedFile, data_folder

_BLOCK = 1 << 16
_RETRIES = 2
_TIMEOUT_SECONDS = 60.0


def fetch(name: str, source: str | Path | None = None, root: str | Path | None = None) -> list[Path]:
    """Download the files of a data set, or copy them from a place on this machine.

    A progress bar is shown on a terminal. Processes that fetch the same file at once each bring their own
    copy, and the last one stays. A download that is interrupted leaves nothing and is begun anew.

    Parameters
    ----------
    name : {"fashion-mnist", "cifar10", "cifar100"}
        The data set. ``digits`` comes with scikit-learn.
    source : str or path, optional
        Where to take the files from, instead of where they are published: the URL or path of a data set's
        one file, or of the folder of its files. ``~`` is the home folder.
    root : path, optional
        Folder for the files; if not given, ``PYTHERMO_DATA`` or pythermo's folder in the user's cache, where
        `pythermo.data.load` looks. ``~`` is the home folder.

    Returns
    -------
    list of Path
        The files. One that is already there with the published checksum is not brought again.

    Raises
    ------
    ValueError
        For an unknown name, a ``source`` of another name, and a file without the published size and
        checksum: nothing of it is kept, and what was there before stays.
    FileNotFoundError
        For a ``source`` that is not there.
    ConnectionError
        For a download that failed three times.
    OSError
        For a ``root`` that is not a folder or cannot be written to; before anything is downloaded.

    Examples
    --------
    >>> import pythermo as pt
    >>> pt.data.fetch("cifar10", root="~/data")  # doctest: +SKIP
    [PosixPath('/home/me/data/cifar-10-binary.tar.gz')]
    >>> images = pt.data.load("cifar10", root="~/data")  # doctest: +SKIP
    """
    if name == "digits":
        raise ValueError("name: digits comes with scikit-learn; there is nothing to fetch")
    if name not in DATA_SETS:
        raise ValueError(f"name: '{name}' is not a known data set; known: {', '.join(DATA_SETS)}")
    edition, places = _places(DATA_SETS[name], source)
    folder = data_folder() if root is None else Path(root).expanduser()
    for file, place in zip(edition, places, strict=True):
        _bring(file, place, folder)
    return [folder / file.name for file in edition]


def _places(data_set: DataSet, source: str | Path | None) -> tuple[Edition, list[str]]:
    """Return an edition and the URL or path of each of its files."""
    place = data_set.url if source is None else str(source)
    if not _is_url(place):
        place = str(Path(place).expanduser())
        if not Path(place).exists():
            raise FileNotFoundError(f"--from: {place} is not there")
    for edition in data_set.editions:
        if [place.rpartition("/")[2]] == [file.name for file in edition]:
            return edition, [place]
    for edition in data_set.editions:
        places = [f"{place.removesuffix('/')}/{file.name}" for file in edition]
        if _is_url(place) or all(Path(path).is_file() for path in places):
            return edition, places
    raise ValueError(f"--from: must be {data_set.files}, or a folder that holds them, not {place}")


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _bring(file: PublishedFile, place: str, folder: Path) -> None:
    """Let a file appear in a folder, if it is as published."""
    import pooch
    from requests import RequestException

    path = folder / file.name
    downloads = pooch.create(
        folder,
        base_url="",
        registry={file.name: f"md5:{file.md5}"},
        urls={file.name: place},
        retry_if_failed=_RETRIES if _is_url(place) else 0,
    )
    try:
        downloads.fetch(file.name, downloader=partial(_deliver, file))
    except RequestException as error:
        raise ConnectionError(
            f"{place}: {error}; nothing is kept. Try again, or name another file or URL by --from"
        ) from error
    except ValueError as error:
        raise ValueError(f"{place}: refused; {error} --from takes the file from elsewhere") from error
    except OSError as error:
        raise OSError(
            f"{path}: not written ({error}); --root or PYTHERMO_DATA names another folder"
        ) from error


def _deliver(file: PublishedFile, place: str, output: str, _: object) -> None:
    """Write what is at a place to a temporary file of pooch's, which then checks it and gives it its name."""
    from pooch import HTTPDownloader

    if _is_url(place):
        with (
            ProgressBar(file.size, unit="B", unit_scale=True, desc=file.name) as bar,
            _Bounded(output, file.size) as written,
        ):
            download = HTTPDownloader(
                progressbar=bar,
                chunk_size=_BLOCK,
                timeout=_TIMEOUT_SECONDS,
                headers={"Accept-Encoding": "identity"},  # the file is compressed as it is
            )
            download(place, written, None)
    else:
        shutil.copyfile(place, output)
    written_size = Path(output).stat().st_size
    if written_size != file.size:
        raise ValueError(f"it has {written_size} bytes, the published file {file.size}.")
    Path(output).chmod(0o644)  # pooch's temporary files can be read by their owner alone


class _Bounded(io.FileIO):
    """A file to be written that refuses more than so many bytes; pooch would check when all is there."""

    def __init__(self, path: str, most: int) -> None:
        super().__init__(path, "w")
        self._most = most

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._most:
            raise ValueError(f"it is larger than the published {self._most} bytes.")
        return super().write(data)
