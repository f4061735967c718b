"""A data set as its files hold it: pixels and labels, neither standardized nor on a device."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes
    ----------
    images : ndarray [N, channels, H, W]
        uint8 from 0 to 255, or float32.
    labels : ndarray [N]
        int64, from 0 to the number of classes less one.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Arrays:
    """Training and test images, and how many classes they have."""

    train: Split
    test: Split
    num_classes: int


def checked_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels as int64; ValueError names one outside ``0 ... num_classes - 1``."""
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(f"labels must lie in 0 ... {num_classes - 1}, found {outside[0]}")
    return labels.astype(np.int64)
