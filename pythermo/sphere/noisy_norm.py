"""The mean norm of a gradient with isotropic noise."""

import numpy as np
from scipy.special import factorial, gammaln, hyp1f1

from pythermo.sphere.settings import Array


def mean_noisy_norm(full: Array, sigma: Array, freedom: int) -> Array:
    """Return the mean of |G + noise| for |G| = ``full`` and normal noise in ``freedom`` directions."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squared = (full / sigma) ** 2
        factor = np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2)) * np.sqrt(2.0)
        mean = factor * hyp1f1(-0.5, freedom / 2, -0.5 * squared)
        mean = np.where(np.isfinite(mean), mean, _mean_of_far_norm(squared, freedom))
    return np.where(sigma > 0.0, sigma * mean, full)


def _mean_of_far_norm(squared: Array, freedom: int) -> Array:
    """Return the mean of the root of a noncentral chi-squared variable Q from its moments.

    E sqrt(Q) in powers of Q / E Q - 1, of which the sixth is the last: off by less than 1e-8 where E Q is
    beyond 300, where hyp1f1 begins to overflow.
    """
    mean = freedom + squared

    def cumulant(n: int) -> Array:
        value: Array = 2.0 ** (n - 1) * factorial(n - 1) * (freedom + n * squared) / mean**n
        return value

    k2, k3, k4, k5, k6 = (cumulant(n) for n in range(2, 7))
    fourth, fifth = k4 + 3.0 * k2**2, k5 + 10.0 * k3 * k2
    sixth = k6 + 15.0 * k4 * k2 + 10.0 * k3**2 + 15.0 * k2**3
    series = 1.0 - k2 / 8 + k3 / 16 - 5 * fourth / 128 + 7 * fifth / 256 - 21 * sixth / 1024
    root: Array = np.sqrt(mean) * series
    return root
