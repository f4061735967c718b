"""Differences of 1/T from the losses that two learning rates visit, without an entropy."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from pythermo._checks import Floats

# Beyond it, the two samples lie side by side: their ratio is known nowhere.
_LARGEST_SLOPE = 50.0


def inverse_temperature_step(colder: Floats, hotter: Floats) -> float:
    """Return ``1/T_colder - 1/T_hotter`` by the ratio of two samples' histograms of U.

    States of Boltzmann's distribution at two temperatures have ``log P_colder(U) - log P_hotter(U) = c -
    (1/T_colder - 1/T_hotter) U``. The slope is that of the logistic regression of which sample a loss belongs
    to, the maximum likelihood, which needs no bins.

    Parameters
    ----------
    colder, hotter : array [n], array [m]
        Losses, finite; their order and their correlation in time do not count.

    Returns
    -------
    float
        In 1 / loss units; NaN where the samples do not overlap, or have no width.

    Notes
    -----
    Source: Merz and Shirts 2018; Shirts and Chodera 2008.
    """
    both = np.concatenate([colder, hotter])
    scale = both.std()
    if scale == 0.0 or colder.max() <= hotter.min() or hotter.max() <= colder.min():
        return float("nan")
    x = (both - both.mean()) / scale
    sign = np.repeat([1.0, -1.0], [len(colder), len(hotter)])
    # Both samples count alike, however many losses they have.
    weight = np.repeat([0.5 / len(colder), 0.5 / len(hotter)], [len(colder), len(hotter)])

    def loss_and_gradient(line: Floats) -> tuple[float, Floats]:
        margin = sign * (line[0] + line[1] * x)
        pull = -weight * sign * expit(-margin)
        return float(weight @ np.logaddexp(0.0, -margin)), np.array([pull.sum(), pull @ x])

    found = minimize(loss_and_gradient, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope = float(found.x[1])
    return -slope / scale if abs(slope) < _LARGEST_SLOPE else float("nan")
