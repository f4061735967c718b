"""Data sets: loaded whole, standardised, reduced and relabelled by a seed of their own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# The images of the last writers of the digits are kept for testing.
_DIGITS_FOR_TRAINING = 1497


@dataclass(frozen=True)
class Images:
    """A data set in memory.

    Attributes
    ----------
    train_images, test_images : Tensor [N, channels, H, W]
        float32, standardised by the mean and deviation of the training images.
    train_labels, test_labels : Tensor [N]
        int64, from 0 to ``num_classes - 1``.
    num_classes : int
        Number of classes.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
        return self.train_images.shape[1]

    def to(self, device: torch.device | str) -> "Images":
        """Return the same images and labels on a device."""
        return Images(
            self.train_images.to(device),
            self.train_labels.to(device),
            self.test_images.to(device),
            self.test_labels.to(device),
            self.num_classes,
        )


def load(
    name: str,
    root: str | Path | None = None,
    samples_per_class: int | None = None,
    label_noise: float = 0.0,
    seed: int = 1,
) -> Images:
    """Load a data set.

    Parameters
    ----------
    name : {"digits"}
        ``digits``: scikit-learn's 1797 handwritten digits of 8x8 pixels in one channel, the first 1497
        for training, the last 300, of other writers, for testing.
    root : path, optional
        Folder of the files of a data set that is not bundled; digits needs none.
    samples_per_class : int, optional
        Keep so many training images of each class, chosen without replacement.
    label_noise : float
        Share of the training labels that are redrawn uniformly from all classes, in [0, 1].
    seed : int
        Seed of the choice and of the labels.

    Returns
    -------
    Images

    Raises
    ------
    ValueError
        For an unknown name, a class with too few images, a share outside [0, 1].

    Notes
    -----
    Source: arXiv 2505.23489 (separate seeds, subsets of so many images per class).
    """
    if name != "digits":
        raise ValueError(f"name: '{name}' is not a known data set; known: digits")
    if root is not None:
        raise ValueError("root: digits is bundled with scikit-learn and takes no folder")
    if not 0.0 <= label_noise <= 1.0:
        raise ValueError(f"label_noise: must lie in [0, 1], not {label_noise}")
    images, labels = _digits()
    train, test = slice(None, _DIGITS_FOR_TRAINING), slice(_DIGITS_FOR_TRAINING, None)
    num_classes = int(labels.max()) + 1
    generator = np.random.default_rng(seed)
    kept = np.arange(len(labels))[train]
    if samples_per_class is not None:
        kept = _choose_per_class(labels[kept], samples_per_class, num_classes, generator)
    mean, deviation = images[kept].mean(), images[kept].std()
    standardised = torch.from_numpy((images - mean) / deviation)
    return Images(
        train_images=standardised[kept],
        train_labels=torch.from_numpy(_redraw(labels[kept], label_noise, num_classes, generator)),
        test_images=standardised[test],
        test_labels=torch.from_numpy(labels[test]),
        num_classes=num_classes,
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.float32)[:, None], bunch.target.astype(np.int64)


def _choose_per_class(
    labels: np.ndarray, count: int, num_classes: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the sorted indices of ``count`` images of each class, chosen without replacement."""
    if count < 1:
        raise ValueError(f"samples_per_class: must be at least 1, not {count}")
    chosen = []
    for label in range(num_classes):
        candidates = np.flatnonzero(labels == label)
        if len(candidates) < count:
            raise ValueError(
                f"samples_per_class: {count} wanted, but class {label} has {len(candidates)} images"
            )
        chosen.append(generator.choice(candidates, count, replace=False))
    return np.sort(np.concatenate(chosen))


def _redraw(labels: np.ndarray, share: float, num_classes: int, generator: np.random.Generator) -> np.ndarray:
    """Return the labels with a share of them replaced by uniform draws."""
    redrawn = labels.copy()
    chosen = generator.choice(len(labels), round(share * len(labels)), replace=False)
    redrawn[chosen] = generator.integers(num_classes, size=len(chosen))
    return redrawn
