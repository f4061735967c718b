"""How much the values of a series tell anew: integrated autocorrelation time and effective sample size."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft

Floats = NDArray[np.float64]

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
    """
    values = np.asarray(series, dtype=np.float64)
    if values.ndim < 1 or values.shape[-1] < 2:
        raise ValueError(f"series: must have the shape [..., n] with n >= 2, not {list(values.shape)}")
    rows = values.reshape(-1, values.shape[-1])
    times = [_times(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
    return np.concatenate([np.empty(0), *times]).reshape(values.shape[:-1])


def effective_sample_size(series: ArrayLike) -> Any:
    """Return the number of independent values that would know the mean as well: n over the time.

    Parameters, errors and assumptions as `integrated_autocorrelation_time`.
    """
    values = np.asarray(series, dtype=np.float64)
    times = integrated_autocorrelation_time(values)
    return values.shape[-1] / times


def _times(rows: Floats) -> Floats:
    """Return the autocorrelation times [m] of series [m, n]."""
    n = rows.shape[1]
    constant = np.ptp(rows, axis=1) == 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = rows - rows.mean(axis=1, keepdims=True)
        size = next_fast_len(2 * n)
        covariance = irfft(np.abs(rfft(centred, size, axis=1)) ** 2, size, axis=1)[:, :n]
        times = 2.0 * np.cumsum(covariance / covariance[:, :1], axis=1) - 1.0
    lags = np.arange(n // 2 + 1)
    sums = times[:, : len(lags)] * (1.0 + (2 * lags + 1) / n)
    beyond = lags >= np.maximum(_WINDOW_TIMES * sums, min(_LEAST_LAG, n // 4))
    at_the_end = sums[np.arange(len(rows)), beyond.argmax(axis=1)]
    found: Floats = np.where(beyond.any(axis=1), at_the_end, sums.max(axis=1))
    found = np.clip(found, min(1.0, _LEAST_LAG / n), n)
    found[constant] = np.nan
    return found
