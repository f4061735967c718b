"""Signal and noise of stochastic gradients: the norms that tell how far SGD feels the slope."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from pythermo import ops
from pythermo._checks import Floats, as_tensor_to_read, require_float, require_values


@dataclass(frozen=True)
class GradientNoise:
    """Norms of a full gradient G and of m stochastic gradients g_i, in loss units per weight unit.

    Attributes
    ----------
    snr : float
        ``|G| / sqrt(mean |g_i - G|^2)``.
    snr_l1 : float
        ``|G| / mean |g_i - G|``, the older form.
    full_grad_norm : float
        ``|G|``. NaN (and with it the ratios) where the unbiased estimate of |G|^2 is negative: m is
        then too small to tell the signal from zero.
    mean_grad_norm, mean_squared_grad_norm : float
        ``mean |g_i|`` and ``mean |g_i|^2``.
    mean_noise_norm, rms_noise_norm : float
        ``mean |g_i - G|`` and ``sqrt(mean |g_i - G|^2)``.
    squared_full_grad_norm : float
        ``|G|^2``, or its unbiased estimate.
    full_gradient : {"given", "mean"}
        Whether G was given or is the mean of the stochastic gradients.
    """

    snr: float
    snr_l1: float
    full_grad_norm: float
    mean_grad_norm: float
    mean_squared_grad_norm: float
    mean_noise_norm: float
    rms_noise_norm: float
    squared_full_grad_norm: float
    full_gradient: Literal["given", "mean"]


def gradient_noise(full_grad: Any, stochastic_grads: Any) -> GradientNoise:
    """Measure the noise of stochastic gradients around a full gradient that is known.

    Parameters
    ----------
    full_grad : Tensor or array [D]
        The full gradient G, e.g. from evaluation batches.
    stochastic_grads : Tensor or array [m, D], or iterable of [D]
        The stochastic gradients; an iterable is gone through once and only one gradient is held.

    Returns
    -------
    GradientNoise

    Raises
    ------
    ValueError, TypeError
        For shapes that differ, no gradient at all, elements that are not finite, another dtype.

    Notes
    -----
    With BatchNorm a gradient depends on how its batch is composed: a G from larger batches is not the
    mean of the g_i, and its difference counts as noise. `gradient_noise_about_mean` avoids that.
    Source: arXiv 2505.23489.

    Examples
    --------
    >>> noise = pt.gradient_noise(np.array([3.0, 4.0]), np.array([[3.0, 5.0], [3.0, 3.0]]))
    >>> noise.full_grad_norm, noise.rms_noise_norm, noise.snr
    (5.0, 1.0, 5.0)
    """
    center = as_tensor_to_read("full_grad", full_grad).detach()
    require_values("full_grad", center)
    require_float("full_grad", center)
    if center.ndim != 1:
        raise ValueError(f"full_grad: must have the shape [D], not {list(center.shape)}")
    center = center.double()
    squared_center = float(center @ center)
    if not math.isfinite(squared_center):
        raise ValueError("full_grad: all elements must be finite")
    sums = [ops.gradient_sums_(grad, center) for grad in _each_gradient(stochastic_grads, center)]
    return noise_about(_stacked(sums), squared_center)


def gradient_noise_about_mean(stochastic_grads: Any) -> GradientNoise:
    """Measure the noise of stochastic gradients around their own mean.

    |G|^2 is the mean of <g_i, g_j> over i != j and the noise is |g_i|^2 - |G|^2 on average; both are
    unbiased, and need one pass. The mean of |g_i - G| needs a second pass and is scaled by
    sqrt(m / (m - 1)) for the same reason.

    Parameters
    ----------
    stochastic_grads : Tensor or array [m, D], or iterable of [D]
        At least two gradients. An iterable is gone through twice and must give the same gradients each
        time; only one of them is held.

    Returns
    -------
    GradientNoise

    Raises
    ------
    ValueError, TypeError
        As `gradient_noise`; an iterator, which can be gone through only once, is refused.

    Notes
    -----
    The choice that is consistent with BatchNorm; arXiv 2505.23489 takes evaluation batches.
    """
    if isinstance(stochastic_grads, Iterator):
        raise TypeError("stochastic_grads: is needed twice, so an iterator will not do; give an iterable")
    total: torch.Tensor | None = None
    sums = []
    for grad in _each_gradient(stochastic_grads, None):
        if total is None:
            total = torch.zeros_like(grad, dtype=torch.float64)
        sums.append(ops.gradient_sums_(grad, total=total))
    squared = _stacked(sums)
    _norms(squared, at_least=2)
    assert total is not None
    m = len(sums)
    center = total / m
    again = [ops.gradient_sums_(grad, center) for grad in _each_gradient(stochastic_grads, center)]
    if len(again) != m:
        raise ValueError(f"stochastic_grads: gave {m} gradients at first and {len(again)} then")
    return noise_about_mean(squared, float(total @ total), _stacked(again))


def noise_about(sums: Floats, squared_full_grad_norm: float) -> GradientNoise:
    """Return the noise of gradients from |g_i|^2 and |g_i - G|^2, [m, 2], and |G|^2."""
    norms, noise = _norms(sums, at_least=1)
    return _assemble(norms, noise, squared_full_grad_norm, "given")


def noise_about_mean(sums: Floats, squared_total: float, again: Floats) -> GradientNoise:
    """Return the noise of gradients about their mean.

    From |g_i|^2 in the first column of ``sums`` [m, 2], |sum of g_i|^2, and, in the second column of
    ``again`` [m, 2], |g_i - mean|^2.
    """
    norms, _ = _norms(sums, at_least=2)
    _, noise = _norms(again, at_least=2)
    m = len(norms)
    squared_center = (squared_total - m * _mean_square(norms)) / (m * (m - 1))
    return _assemble(norms, math.sqrt(m / (m - 1)) * noise, squared_center, "mean")


def _assemble(
    norms: Floats,
    noise: Floats,
    squared_center: float,
    full_gradient: Literal["given", "mean"],
) -> GradientNoise:
    norm = math.sqrt(squared_center) if squared_center >= 0.0 else math.nan
    mean_noise, rms_noise = float(np.mean(noise)), math.sqrt(_mean_square(noise))
    return GradientNoise(
        snr=_ratio(norm, rms_noise),
        snr_l1=_ratio(norm, mean_noise),
        full_grad_norm=norm,
        mean_grad_norm=float(np.mean(norms)),
        mean_squared_grad_norm=_mean_square(norms),
        mean_noise_norm=mean_noise,
        rms_noise_norm=rms_noise,
        squared_full_grad_norm=squared_center,
        full_gradient=full_gradient,
    )


def _each_gradient(grads: Iterable[Any], like: torch.Tensor | None) -> Iterator[torch.Tensor]:
    """Yield the gradients [D], contiguous, of the shape and device of ``like``, or of the first."""
    if isinstance(grads, torch.Tensor | np.ndarray):
        grads = as_tensor_to_read("stochastic_grads", grads)
        if grads.ndim == 0:
            raise ValueError("stochastic_grads: must have the shape [m, D], not []")
    if not isinstance(grads, Iterable):
        raise TypeError(f"stochastic_grads: must be gradients [m, D] or an iterable of them, not {grads!r}")
    for index, given in enumerate(grads):
        grad = as_tensor_to_read(f"stochastic_grads[{index}]", given).detach()
        require_float(f"stochastic_grads[{index}]", grad)
        like = grad.reshape(-1) if like is None else like
        if grad.shape != like.shape or grad.device != like.device:
            raise ValueError(
                f"stochastic_grads[{index}]: must have the shape {list(like.shape)} on {like.device}, "
                f"not {list(grad.shape)} on {grad.device}"
            )
        require_values(f"stochastic_grads[{index}]", grad)
        yield grad.contiguous()


def _stacked(sums: list[torch.Tensor]) -> Floats:
    """Return the sums of each gradient, [m, 2]."""
    squared: Floats = torch.stack(sums).cpu().numpy() if sums else np.empty((0, 2))
    return squared


def _norms(squared: Floats, at_least: int) -> tuple[Floats, Floats]:
    """Return |g_i| and |g_i - center| [m] from the sums of each gradient [m, 2], checked."""
    if len(squared) < at_least:
        raise ValueError(f"stochastic_grads: at least {at_least} needed, {len(squared)} given")
    finite = np.isfinite(squared).all(axis=1)
    if not finite.all():
        raise ValueError(f"stochastic_grads[{finite.argmin()}]: all elements must be finite")
    return np.sqrt(squared[:, 0]), np.sqrt(squared[:, 1])


def _mean_square(norms: Floats) -> float:
    return float(np.mean(np.square(norms)))


def _ratio(signal: float, noise: float) -> float:
    if noise > 0.0:
        return signal / noise
    return math.inf if signal > 0.0 else math.nan
