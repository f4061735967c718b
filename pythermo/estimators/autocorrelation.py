"""How much the values of a series tell anew: integrated autocorrelation time and effective sample size."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len, rfft

from pythermo._checks import Floats, as_floats

# The sum over lags ends at the first one beyond this many autocorrelation times, and not before the least
# (a quarter of a short series).
_WINDOW_TIMES, _LEAST_LAG = 5.0, 10

# Series that are transformed together, so that memory stays bounded.
_CHUNK = 256


def integrated_autocorrelation_time(series: ArrayLike) -> Any:
    """Return ``1 + 2 * sum of the autocorrelations``, in samples.

    Parameters
    ----------
    series : array [..., n]
        Values of stationary processes along the last axis, n >= 2.

    Returns
    -------
    array [...]
        From 10 / n (1 if n is below 10) to n; NaN for a series that is constant or not finite.

    Raises
    ------
    ValueError
        For fewer than two values.

    Notes
    -----
    The sum ends at the first lag of 10 or more beyond 5 times the result so far (Sokal 1997). The mean is
    taken from the series, which lowers each autocorrelation by about the time over n; that is mended to first
    order (Wolff 2004). A series shorter than some 20 times does not show it: where no lag up to n / 2 ends
    the sum, the result is the largest sum on the way, a lower bound.

    Examples
    --------
    Values that stay for ten samples each:

    >>> series = np.repeat(np.random.default_rng(0).normal(size=1000), 10)
    >>> 8 < float(pt.integrated_autocorrelation_time(series)) < 12
    True
    """
    values = as_floats("series", series)
    if values.ndim < 1 or values.shape[-1] < 2:
        raise ValueError(f"series: must have the shape [..., n] with n >= 2, not {list(values.shape)}")
    return _times(values.reshape(-1, values.shape[-1])).reshape(values.shape[:-1])


def trajectory_autocorrelation_time(points: ArrayLike) -> Any:
    """Return ``1 + 2 * sum of the autocorrelations`` of a moving point, in samples.

    The autocorrelation at a lag is the mean product of the point's deviations from its mean, as vectors:
    that of all coordinates together, each by its variance.

    Parameters
    ----------
    points : array [..., n, D]
        Successive points of stationary processes, n >= 2.

    Returns
    -------
    array [...]
        From 10 / n (1 if n is below 10) to n; NaN where all points coincide or are not finite.

    Raises
    ------
    ValueError
        For fewer than two points.

    Notes
    -----
    As `integrated_autocorrelation_time`: a window shorter than some 20 times gives a lower bound.
    """
    values = as_floats("points", points)
    if values.ndim < 2 or values.shape[-2] < 2:
        raise ValueError(f"points: must have the shape [..., n, D] with n >= 2, not {list(values.shape)}")
    clouds = values.reshape(-1, *values.shape[-2:])
    times = [_vector_time(cloud) for cloud in clouds]
    return np.array(times, dtype=np.float64).reshape(values.shape[:-2])


def effective_sample_size(series: ArrayLike) -> Any:
    """Return the number of independent values that would know the mean as well: n over the time.

    Parameters
    ----------
    series : array [..., n]
        As in `integrated_autocorrelation_time`, with its errors and assumptions.

    Returns
    -------
    array [...]
        From 1 to n^2 / 10; NaN for a series that is constant or not finite.
    """
    values = as_floats("series", series)
    times = integrated_autocorrelation_time(values)
    return values.shape[-1] / times


def time_of_covariances(covariances: Floats) -> Floats:
    """Return autocorrelation times [m] from autocovariances [m, n] at the lags of a series of n values.

    Lags beyond n / 2 are not looked at.
    """
    n = covariances.shape[1]
    lags = np.arange(n // 2 + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = 2.0 * np.cumsum(covariances[:, lags] / covariances[:, :1], axis=1) - 1.0
    sums *= 1.0 + (2 * lags + 1) / n
    beyond = lags >= np.maximum(_WINDOW_TIMES * sums, min(_LEAST_LAG, n // 4))
    at_the_end = sums[np.arange(len(sums)), beyond.argmax(axis=1)]
    found: Floats = np.where(beyond.any(axis=1), at_the_end, sums.max(axis=1))
    return np.clip(found, min(1.0, _LEAST_LAG / n), n)


def _vector_time(cloud: Floats) -> float:
    if (cloud == cloud[0]).all():
        return np.nan
    total = np.zeros(len(cloud))
    for start in range(0, cloud.shape[1], _CHUNK):
        total += _covariances(cloud[:, start : start + _CHUNK].T).sum(axis=0)
    return float(time_of_covariances(total[None])[0])


def _times(rows: Floats) -> Floats:
    """Return the autocorrelation times [m] of series [m, n]."""
    times = time_of_covariances(_covariances(rows))
    times[np.ptp(rows, axis=1) == 0.0] = np.nan
    return times


def _covariances(rows: Floats) -> Floats:
    """Return the autocovariances [m, n], times n, of series [m, n]."""
    n, size = rows.shape[1], next_fast_len(2 * rows.shape[1])
    covariances = np.empty(rows.shape)
    with np.errstate(invalid="ignore"):
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            spectrum = np.abs(rfft(part - part.mean(axis=1, keepdims=True), size, axis=1)) ** 2
            covariances[start : start + _CHUNK] = irfft(spectrum, size, axis=1)[:, :n]
    return covariances
