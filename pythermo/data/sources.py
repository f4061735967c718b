"""The data sets, the files that they are published as, and the folders where those are looked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pythermo.data import cifar, fashion_mnist
from pythermo.data.arrays import Arrays


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set.

    Attributes
    ----------
    name : str
        Its name.
    md5 : str
        The published checksum. MD5 shows damage, not forgery: a file that has it is not trusted for that.
    size : int
        Bytes.
    read : callable
        Reads it at a path; ValueError for what is not the published layout.
    unpacked : tuple of str
        The files that come out when it is unpacked, all in one folder, which can stand in its place.
    """

    name: str
    md5: str
    size: int
    read: Callable[[Path], Any]
    unpacked: tuple[str, ...] = ()

    def whole_in(self, folder: Path) -> Path | None:
        """Return where it lies in a folder, with or without its gzip compression."""
        path = folder / self.name
        return next((whole for whole in (path, path.with_suffix("")) if whole.is_file()), None)

    def unpacked_in(self, folder: Path) -> Path | None:
        """Return the folder that was unpacked from it into another, if no file is missing there."""
        if self.unpacked and all((folder / name).is_file() for name in self.unpacked):
            return (folder / self.unpacked[0]).parent
        return None


# The files of one way in which a data set is published.
Edition = tuple[PublishedFile, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set that is not bundled.

    Attributes
    ----------
    shape : tuple of int
        Channels, height and width of an image.
    train, test : int
        Number of images.
    num_classes : int
        Number of classes.
    url : str
        Where the files are published, with a slash at the end.
    editions : tuple of Edition
        The first is fetched, the others are read where they are found.
    assemble : callable
        Makes the data set from the contents of an edition's files.
    standard : tuple of two tuples of float, optional
        Mean and deviation of each channel, of pixels from 0 to 1, by which images are standardized; without
        them, by mean and deviation of the training images.
    installed : Path, optional
        Where a system's package puts the files.
    """

    shape: tuple[int, int, int]
    train: int
    test: int
    num_classes: int
    url: str
    editions: tuple[Edition, ...]
    assemble: Callable[..., Arrays]
    standard: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    installed: Path | None = None

    @property
    def files(self) -> str:
        """The names of the files of each edition, as text for a message."""
        return " or ".join(", ".join(file.name for file in edition) for edition in self.editions)


def _archive(name: str, md5: str, size: int, layout: cifar.Layout) -> Edition:
    unpacked = tuple(f"{layout.folder}/{batch}" for batch in (*layout.train, *layout.test))
    return (PublishedFile(name, md5, size, partial(cifar.read_cifar, layout=layout), unpacked),)


def _whole(arrays: Arrays) -> Arrays:
    return arrays


# arXiv 2505.23489 takes these for both sets.
_CIFAR_STANDARD = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

DATA_SETS = {
    "fashion-mnist": DataSet(
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        num_classes=fashion_mnist.CLASSES,
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        editions=(
            (
                PublishedFile(
                    "train-images-idx3-ubyte.gz",
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    26_421_880,
                    partial(fashion_mnist.read_images, count=60_000),
                ),
                PublishedFile(
                    "train-labels-idx1-ubyte.gz",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    29_515,
                    partial(fashion_mnist.read_labels, count=60_000),
                ),
                PublishedFile(
                    "t10k-images-idx3-ubyte.gz",
                    "bef4ecab320f06d8554ea6380940ec79",
                    4_422_102,
                    partial(fashion_mnist.read_images, count=10_000),
                ),
                PublishedFile(
                    "t10k-labels-idx1-ubyte.gz",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                    5_148,
                    partial(fashion_mnist.read_labels, count=10_000),
                ),
            ),
        ),
        assemble=fashion_mnist.assemble,
        installed=Path("/usr/share/datasets/fashion-mnist"),
    ),
    "cifar10": DataSet(
        shape=cifar.SHAPE,
        train=50_000,
        test=10_000,
        num_classes=10,
        url="https://www.cs.toronto.edu/~kriz/",
        editions=(
            _archive(
                "cifar-10-binary.tar.gz",
                "c32a1d4ab5d03f1284b67883e8d87530",
                170_052_171,
                cifar.CIFAR10_BINARY,
            ),
            _archive(
                "cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                170_498_071,
                cifar.CIFAR10_PYTHON,
            ),
        ),
        assemble=_whole,
        standard=_CIFAR_STANDARD,
    ),
    "cifar100": DataSet(
        shape=cifar.SHAPE,
        train=50_000,
        test=10_000,
        num_classes=100,
        url="https://www.cs.toronto.edu/~kriz/",
        editions=(
            _archive(
                "cifar-100-binary.tar.gz",
                "03b5dce01913d631647c71ecec9e9cb8",
                168_513_733,
                cifar.CIFAR100_BINARY,
            ),
            _archive(
                "cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
                169_001_437,
                cifar.CIFAR100_PYTHON,
            ),
        ),
        assemble=_whole,
        standard=_CIFAR_STANDARD,
    ),
}


def data_folder() -> Path:
    """Return the folder of fetched files: ``PYTHERMO_DATA``, or pythermo's folder in the user's cache."""
    chosen = os.environ.get("PYTHERMO_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("pythermo"))


def find(name: str, root: Path | None = None) -> list[tuple[PublishedFile, Path]]:
    """Return the files of a data set that are on this machine, and where.

    The folders are ``root``, `data_folder` and that of the system's package, in this order. A file may be
    there uncompressed, without the ending of its name. If there is no archive, the folder that was unpacked
    from one is taken.

    Raises
    ------
    FileNotFoundError
        Saying where the files were looked for and how to get them.
    """
    data_set = DATA_SETS[name]
    given = None if root is None else root.expanduser()
    folders = [folder for folder in (given, data_folder(), data_set.installed) if folder is not None]
    for folder in folders:
        for located in (PublishedFile.whole_in, PublishedFile.unpacked_in):
            for edition in data_set.editions:
                found = [(file, path) for file in edition if (path := located(file, folder)) is not None]
                if len(found) == len(edition):
                    return found
    raise FileNotFoundError(
        f"{name}: found in none of {', '.join(map(str, folders))}; "
        f"`pythermo data fetch {name}` downloads it. Its files, published or unpacked, are {data_set.files}"
    )


def read(name: str, root: Path | None = None) -> Arrays:
    """Read a data set where `find` finds it; ValueError names a file that is not as published."""
    return DATA_SETS[name].assemble(*(file.read(path) for file, path in find(name, root)))
