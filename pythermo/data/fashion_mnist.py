"""Fashion-MNIST: gray images of ten kinds of clothes, 28x28 pixels, in four IDX files.

Source: https://github.com/zalandoresearch/fashion-mnist.
"""

from pathlib import Path

import numpy as np

from pythermo.data.arrays import Arrays, Split, checked_labels
from pythermo.data.idx import read_idx

SIDE, CLASSES = 28, 10


def read_images(path: Path, count: int) -> np.ndarray:
    """Read images [count, 1, 28, 28], uint8."""
    return read_idx(path, (count, SIDE, SIDE))[:, None]


def read_labels(path: Path, count: int) -> np.ndarray:
    """Read labels [count], int64."""
    labels = read_idx(path, (count,))
    try:
        return checked_labels(labels, CLASSES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def assemble(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> Arrays:
    """Return the data set that its four files make up."""
    return Arrays(Split(train_images, train_labels), Split(test_images, test_labels), CLASSES)
