"""Least squares by a convex, increasing function: a curve without a width to choose."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from pythermo._checks import Floats


@dataclass(frozen=True)
class ConvexFit:
    """The convex, increasing function nearest to points, linear between them.

    Attributes
    ----------
    values : array [n]
        At the points, in the order given.
    left, right : array [n]
        Slopes on both sides of each point; at the first and the last one there is one, which is both.
    farthest : float
        The largest weighted squared deviation.
    """

    values: Floats
    left: Floats
    right: Floats
    farthest: float


def convex_regression(x: Floats, y: Floats, weights: Floats) -> ConvexFit:
    """Fit points [n] with weights [n] in the basis 1, x, (x - x_j)_+ with coefficients that are not negative.

    Points of equal x count as one at their weighted mean; where there is one x only, slopes are NaN.
    """
    places, which = np.unique(x, return_inverse=True)
    mass = np.bincount(which, weights)
    mean = np.bincount(which, weights * y) / mass
    if len(places) == 1:
        values = np.full(len(x), mean[0])
        none = np.full(len(x), np.nan)
        return ConvexFit(values, none, none, float(np.max(weights * (y - values) ** 2)))
    basis = np.maximum(places[:, None] - places[None, :-1], 0.0)
    # The constant, which may be negative, is what is left of the means.
    centered = basis - (mass @ basis) / mass.sum()
    scale = np.linalg.norm(centered, axis=0)
    root = np.sqrt(mass / mass.max())
    constant = mass @ mean / mass.sum()
    coefficients, _ = nnls(root[:, None] * (centered / scale), root * (mean - constant))
    coefficients /= scale
    fitted = constant + centered @ coefficients
    slopes = np.cumsum(coefficients)
    left, right = np.append(slopes[:1], slopes), np.append(slopes, slopes[-1:])
    values = fitted[which]
    return ConvexFit(values, left[which], right[which], float(np.max(weights * (y - values) ** 2)))
