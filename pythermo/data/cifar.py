"""CIFAR-10 and CIFAR-100, from the published archives: the binary ones and Python's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pythermo.data.archives import read_members, read_unpacked
from pythermo.data.arrays import Arrays, Split, checked_labels
from pythermo.data.pickled import read_pickle

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# A published batch has 3105 bytes an image, file names and labels included. One that Python 3 writes in the
# same protocol takes two bytes for a pixel above 127.
_MOST_PICKLED = 2 * _PIXELS + 128


@dataclass(frozen=True)
class BinaryRecords:
    """Batches of records: label bytes, then 1024 bytes of red, of green and of blue, row by row.

    Attributes
    ----------
    label_bytes : int
        One label (CIFAR-10), or the coarse and the fine one (CIFAR-100).
    label : int
        The one of them that is read.
    """

    label_bytes: int
    label: int

    def most(self, count: int) -> int:
        """Return the most bytes that a batch of ``count`` images has."""
        return count * (self.label_bytes + _PIXELS)

    def decode(self, data: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels [count, 3072] and labels [count] of a batch."""
        if len(data) != self.most(count):
            raise ValueError(f"must have {self.most(count)} bytes, not {len(data)}")
        records = np.frombuffer(data, np.uint8).reshape(count, -1)
        return records[:, self.label_bytes :], records[:, self.label]


@dataclass(frozen=True)
class PickledBatches:
    """Batches as pickled dictionaries, of which nothing is run (see `pythermo.data.pickled`).

    Attributes
    ----------
    labels : str
        The key of the labels.
    """

    labels: str

    def most(self, count: int) -> int:
        """Return the most bytes that a batch of ``count`` images has."""
        return count * _MOST_PICKLED

    def decode(self, data: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels [count, 3072] and labels [count] of a batch."""
        batch = read_pickle(data)
        pixels, labels = batch.get("data"), batch.get(self.labels)
        if not isinstance(pixels, np.ndarray) or pixels.shape != (count, _PIXELS):
            raise ValueError(f"'data' must be an array [{count}, {_PIXELS}]")
        if not isinstance(labels, list) or len(labels) != count or {type(x) for x in labels} != {int}:
            raise ValueError(f"'{self.labels}' must be a list of {count} integers")
        return pixels, np.array(labels, np.int64)


@dataclass(frozen=True)
class Layout:
    """What an archive holds.

    Attributes
    ----------
    folder : str
        The archive's folder.
    train, test : tuple of str
        Files of the folder, in order, one batch each.
    train_count, test_count : int
        Images of a batch.
    num_classes : int
        Number of classes.
    batches : BinaryRecords or PickledBatches
        How a batch is written.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    train_count: int
    test_count: int
    num_classes: int
    batches: BinaryRecords | PickledBatches


CIFAR10_BINARY = Layout(
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test=("test_batch.bin",),
    train_count=10_000,
    test_count=10_000,
    num_classes=10,
    batches=BinaryRecords(label_bytes=1, label=0),
)
CIFAR10_PYTHON = Layout(
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    train_count=10_000,
    test_count=10_000,
    num_classes=10,
    batches=PickledBatches("labels"),
)
CIFAR100_BINARY = Layout(
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    train_count=50_000,
    test_count=10_000,
    num_classes=100,
    batches=BinaryRecords(label_bytes=2, label=1),
)
CIFAR100_PYTHON = Layout(
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    train_count=50_000,
    test_count=10_000,
    num_classes=100,
    batches=PickledBatches("fine_labels"),
)


def read_cifar(path: Path, layout: Layout) -> Arrays:
    """Read an archive, or the folder that was unpacked from it; of CIFAR-100 the fine labels.

    Raises
    ------
    ValueError
        Naming file and member, for anything that is not as published.

    Notes
    -----
    Source: https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    counts = dict.fromkeys(layout.train, layout.train_count) | dict.fromkeys(layout.test, layout.test_count)
    most = {f"{layout.folder}/{name}": layout.batches.most(count) for name, count in counts.items()}
    members = read_unpacked(path.parent, most) if path.is_dir() else read_members(path, most)

    def split(names: tuple[str, ...]) -> Split:
        pixels, labels = [], []
        for name in names:
            member = f"{layout.folder}/{name}"
            try:
                batch = layout.batches.decode(members[member], counts[name])
                labels.append(checked_labels(batch[1], layout.num_classes))
            except ValueError as error:
                raise ValueError(f"{path}: {member}: {error}") from error
            pixels.append(batch[0])
        return Split(np.concatenate(pixels).reshape(-1, *SHAPE), np.concatenate(labels))

    return Arrays(split(layout.train), split(layout.test), layout.num_classes)
