"""Data sets: loaded whole, standardized, and reduced and relabeled by a seed of their own."""

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pythermo._checks import require_integer
from pythermo.data import sources
from pythermo.data.arrays import Arrays
from pythermo.data.digits import read_digits

NAMES = ("digits", *sources.DATA_SETS)


@dataclass(frozen=True)
class Images:
    """A data set in memory, on one device.

    Pixels are kept as float32: to gather a batch from uint8 and to standardize it each time is no faster on a
    CPU, and for CIFAR a tenth to a quarter slower.

    Attributes
    ----------
    train_images, test_images : Tensor [N, channels, H, W]
        float32, standardized (see `load`): in units of the pixels' deviation.
    train_labels, test_labels : Tensor [N]
        int64, from 0 to ``num_classes - 1``.
    num_classes : int
        Number of classes.

    Examples
    --------
    >>> import pythermo as pt
    >>> import torch
    >>> images = pt.data.load("digits")
    >>> pixels, labels = images.batch(torch.tensor([0, 3]))
    >>> pixels.shape, labels
    (torch.Size([2, 1, 8, 8]), tensor([0, 3]))
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

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return training images [size, channels, H, W] and labels [size] by their indices [size]."""
        return self.train_images.index_select(0, indices), self.train_labels.index_select(0, indices)

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
    *,
    side: int | None = None,
    test_samples: int | None = None,
) -> Images:
    """Load a data set into memory, on the CPU.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "cifar10", "cifar100"}
        ``digits``: scikit-learn's 1797 handwritten digits of 8x8 pixels in one channel, the first 1497
        for training, the last 300, of other writers, for testing. ``fashion-mnist``: 60000 and 10000
        images of 28x28 pixels in one channel. ``cifar10``, ``cifar100``: 50000 and 10000 images of
        32x32 pixels in three channels, red first.
    root : path, optional
        Folder of the files, as published or unpacked. It is searched first, then the folder of
        `pythermo.data.fetch` (``PYTHERMO_DATA``, or the user's cache), then that of the system's package.
        ``~`` is the home folder. Not for digits.
    samples_per_class : int, optional
        Number of training images to keep of each class, chosen at random.
    label_noise : float
        Share of the training labels that are replaced by uniform draws from all classes, in [0, 1].
    seed : int
        Seed of the choice of images and of the drawn labels, at least 0.
    side : int, optional
        Height and width in pixels of the images: larger ones than their own are padded with zeros on all
        sides, such as 32 for ``fashion-mnist``; to smaller ones, which divide their own, squares of pixels
        are averaged, such as 2x2 for 14. Images keep their size if it is not given.
    test_samples : int, optional
        Number of test images to keep, from the first on: each measurement of a run evaluates all of them.

    Returns
    -------
    Images
        float32 [N, channels, side, side]. CIFAR's images are standardized by the published mean and deviation
        of each channel, the others by mean and deviation of all pixels of the training images that are
        kept, padding included.

    Raises
    ------
    ValueError
        For an unknown name, a ``root`` that is not a folder, a class with too few images, a share outside
        [0, 1], a side that is smaller than the images' and does not divide it, and a file that is not as
        published, naming it.
    TypeError
        For a number of the wrong type.
    FileNotFoundError
        For a data set that is not on this machine, saying how to get it.

    Notes
    -----
    Source: arXiv 2505.23489 (separate seeds, subsets per class, CIFAR's mean and deviation).

    Examples
    --------
    >>> import pythermo as pt
    >>> images = pt.data.load("digits", samples_per_class=20, label_noise=0.2, seed=3)
    >>> images.train_images.shape, images.test_images.shape
    (torch.Size([200, 1, 8, 8]), torch.Size([300, 1, 8, 8]))
    """
    if name not in NAMES:
        raise ValueError(f"name: '{name}' is not a known data set; known: {', '.join(NAMES)}")
    label_noise = _share("label_noise", label_noise)
    generator = np.random.default_rng(require_integer("seed", seed, 0, 2**63 - 1))
    samples_per_class = _count("samples_per_class", samples_per_class)
    test_samples, side = _count("test_samples", test_samples), _count("side", side)
    arrays = _read(name, root)
    train, test = arrays.train, arrays.test
    kept = np.arange(len(train.labels))
    if samples_per_class is not None:
        kept = _choose_per_class(train.labels, samples_per_class, arrays.num_classes, generator)
    labels = _redraw(train.labels[kept], label_noise, arrays.num_classes, generator)
    train_images, test_images = _of_side(train.images[kept], side), _of_side(test.images[:test_samples], side)
    mean, deviation = _standard(name, train_images)
    return Images(
        train_images=_standardized(train_images, mean, deviation),
        train_labels=torch.from_numpy(labels),
        test_images=_standardized(test_images, mean, deviation),
        test_labels=torch.from_numpy(test.labels[:test_samples]),
        num_classes=arrays.num_classes,
    )


def _count(name: str, value: int | None) -> int | None:
    return None if value is None else require_integer(name, value, 1)


def _share(name: str, value: Any) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"{name}: must be a number, not {value!r}")
    if not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{name}: must lie in [0, 1], not {value}")
    return float(value)


def _read(name: str, root: str | Path | None) -> Arrays:
    if name == "digits":
        if root is not None:
            raise ValueError("root: digits is bundled with scikit-learn and takes no folder")
        return read_digits()
    folder = None if root is None else Path(root).expanduser()
    if folder is not None and not folder.is_dir():
        raise ValueError(f"root: must be a folder, and {folder} is not")
    return sources.read(name, folder)


def _of_side(images: np.ndarray, side: int | None) -> np.ndarray:
    """Return square images as float32 of another side, if one is given."""
    own = images.shape[-1]
    if side is None or side >= own:
        return _padded(images, side or own)
    if own % side != 0:
        divisors = ", ".join(str(n) for n in range(1, own) if own % n == 0)
        raise ValueError(
            f"side: must be at least the {own} pixels of the images, or divide them ({divisors}), not {side}"
        )
    squares = images.reshape(*images.shape[:-2], side, own // side, side, own // side)
    means: np.ndarray = squares.mean(axis=(-3, -1), dtype=np.float32)
    return means


def _padded(images: np.ndarray, side: int) -> np.ndarray:
    """Return images with zeros around them; an odd row or column more goes below and right."""
    own = images.shape[-1]
    padded = np.zeros((*images.shape[:-2], side, side), np.float32)
    first = (side - own) // 2
    padded[..., first : first + own, first : first + own] = images
    return padded


def _standard(name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation by which images of a data set are standardized, in units of their pixels."""
    published = sources.DATA_SETS[name].standard if name in sources.DATA_SETS else None
    if published is None:
        return images.mean(), images.std()
    mean, deviation = 255.0 * np.array(published).reshape(2, -1, 1, 1)
    return mean.astype(np.float32), deviation.astype(np.float32)


def _standardized(images: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> Tensor:
    """Standardize images in place."""
    images -= mean
    images /= deviation
    return torch.from_numpy(images)


def _choose_per_class(
    labels: np.ndarray, count: int, num_classes: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the sorted indices of ``count`` images of each class, chosen without replacement."""
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
