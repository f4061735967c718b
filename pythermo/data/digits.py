"""The handwritten digits that come with scikit-learn."""

import numpy as np

from pythermo.data.arrays import Arrays, Split

# The images of the last writers are kept for testing.
FOR_TRAINING = 1497


def read_digits() -> Arrays:
    """Return the digits, as float32 from 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.float32)[:, None], bunch.target.astype(np.int64)
    train, test = slice(None, FOR_TRAINING), slice(FOR_TRAINING, None)
    return Arrays(Split(images[train], labels[train]), Split(images[test], labels[test]), num_classes=10)
