"""Differential entropy of a cloud of points."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from pythermo import ops
from pythermo._checks import (
    as_tensor_to_read,
    like_input,
    require_integer,
    require_ks,
    require_points,
    require_positive,
)

# The paper's, of windows of 1000 points.
DEFAULT_KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 999)

# L_k is not allowed below this, so that coinciding points have a finite entropy.
_LEAST_LENGTH = 1e-8


def default_ks(n: int) -> tuple[int, ...]:
    """Return the numbers of neighbors in `DEFAULT_KS` that are below n, and n - 1.

    Raises
    ------
    ValueError, TypeError
        For fewer than two points, or no integer.

    Examples
    --------
    >>> pt.default_ks(30)
    (1, 2, 5, 10, 20, 29)
    """
    n = require_integer("n", n, 0)
    if n < 2:
        raise ValueError(f"n: at least 2 points are needed for a neighbor, not {n}")
    return (*(k for k in DEFAULT_KS if k < n - 1), n - 1)


def knn_graph_entropy(
    points: Any, ks: Sequence[int] | None = None, intrinsic_dim: int | None = None, gamma: float = 1.0
) -> Any:
    """Estimate the differential entropy of a distribution from points drawn from it, in nats.

    From the length L_k of the points' k-nearest-neighbor graph:
    ``S_k = (d / gamma) * (log L_k - (d - gamma) / d * log n)``.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite.
    ks : sequence of int, optional
        Numbers of neighbors, each from 1 to n - 1; `default_ks` of n if not given: those of `DEFAULT_KS`
        below n, and n - 1.
    intrinsic_dim : int, optional
        Dimension d of the set that the points lie on; D - 1, a sphere's, if not given.
    gamma : float
        Power of the distances, positive.

    Returns
    -------
    Tensor or array [..., len(ks)]
        Nats, in float64.

    Raises
    ------
    ValueError, TypeError
        For a wrong shape, dtype, ``ks``, ``intrinsic_dim`` or ``gamma``, or a row that is not finite.

    Notes
    -----
    A constant that depends on k, d and gamma alone is left out: differences between clouds with the
    same n, k, d and gamma mean something, single values do not. The points are taken as independent;
    those of a trajectory are not, and a window shorter than some correlation times shows its path
    rather than the stationary distribution (docs/entropy.md). L_k is not taken below 1e-8: then S_k is a
    bound.

    Rounding: a relative error delta of the distances is an error of d * delta nats. Those of float32 points
    have errors without a common sign of about 1e-8 after averaging: 2e-4 nats at d = 24 407. Statistical
    error: `knn_graph_entropy_error`.

    Source: Costa and Hero 2004, Leonenko et al. 2008; arXiv 2505.23489.

    Examples
    --------
    Twice the spread in each of d = 3 dimensions is 3 log 2 more:

    >>> cloud = np.random.default_rng(0).normal(size=(1000, 3))
    >>> one, two = (pt.knn_graph_entropy(c, [50], intrinsic_dim=3) for c in (cloud, 2 * cloud))
    >>> bool(np.allclose(two - one, 3 * np.log(2)))
    True
    """
    return _graph_entropy(points, "points", ks, intrinsic_dim, gamma, 1.0)


def gradient_cloud_entropy(
    grads: Any,
    lr: float,
    ks: Sequence[int] | None = None,
    intrinsic_dim: int | None = None,
    gamma: float = 1.0,
) -> Any:
    """Estimate the entropy of the cloud of steps ``lr * g_i`` that minibatch gradients would make, in nats.

    Parameters
    ----------
    grads : Tensor or array [..., n, D]
        Gradients of n minibatches at the same weights; float32 or float64, finite.
    lr : float
        Learning rate, positive.
    ks, intrinsic_dim, gamma
        As in `knn_graph_entropy`, whose errors, assumptions and dropped constant hold here too. The gradients
        of batches drawn with replacement are independent: no correlation time applies.

    Returns
    -------
    Tensor or array [..., len(ks)]
        Nats, in float64.

    Notes
    -----
    Source: arXiv 2505.23489.
    """
    return _graph_entropy(grads, "grads", ks, intrinsic_dim, gamma, require_positive("lr", lr))


def knn_graph_entropy_error(
    points: Any,
    ks: Sequence[int] | None = None,
    intrinsic_dim: int | None = None,
    gamma: float = 1.0,
    blocks: int = 10,
) -> Any:
    """Estimate the standard error of `knn_graph_entropy`, in nats, by leaving out blocks of points.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points in the order of time, if there is one.
    ks, intrinsic_dim, gamma
        As in `knn_graph_entropy`; k is cut to what is left of the points.
    blocks : int
        Number of blocks, from 2 to n / 2.

    Returns
    -------
    Tensor or array [..., len(ks)]
        Nats, in float64.

    Raises
    ------
    ValueError, TypeError
        As `knn_graph_entropy`, and for a wrong number of blocks.

    Notes
    -----
    The block jackknife (Kunsch 1989): ``sqrt((b - 1) / b * sum (S_i - mean)^2)`` with S_i the entropy without
    the i-th of b blocks. Blocks should be longer than a few autocorrelation times
    (`trajectory_autocorrelation_time`); of shorter ones it says too little. Ten blocks know it to a quarter.
    It does not see a bias that all S_i share. Gaussian points, D = 3 ... 1000, independent or with times
    up to n / 50: between 0.8 and 1.3 times the standard deviation over repetitions, for all k.
    """
    tensor = as_tensor_to_read("points", points)
    require_points(tensor)
    n = tensor.shape[-2]
    ks = _numbers_of_neighbors(ks, n, "points")
    whole = knn_graph_entropy(tensor, ks, intrinsic_dim, gamma)  # checks the arguments
    edges = block_edges(n, blocks)
    if tensor.numel() == 0:  # no clouds
        return like_input(whole, points)
    left_out = []
    for first, last in pairwise(edges):
        rest = torch.cat([tensor[..., :first, :], tensor[..., last:, :]], dim=-2)
        fewer = [min(k, rest.shape[-2] - 1) for k in ks]
        left_out.append(knn_graph_entropy(rest, fewer, intrinsic_dim, gamma))
    error = jackknife_error(torch.stack(left_out))
    return like_input(error.reshape(whole.shape), points)


def block_edges(n: int, blocks: int) -> list[int]:
    """Return where ``blocks`` blocks of n points begin and end."""
    blocks = require_integer("blocks", blocks, 0)
    if not 2 <= blocks <= n // 2:
        raise ValueError(f"blocks: must be an integer from 2 to {n // 2} for {n} points, not {blocks}")
    return [n * block // blocks for block in range(blocks + 1)]


def jackknife_error(left_out: torch.Tensor) -> torch.Tensor:
    """Return the standard error [...] from the values [blocks, ...] without each block."""
    blocks = len(left_out)
    return (left_out.var(dim=0, unbiased=False) * (blocks - 1)).sqrt()


def entropy_of_lengths(lengths: torch.Tensor, n: int, d: int, gamma: float) -> torch.Tensor:
    """Return the entropies, in nats, from lengths L_k of graphs of n points in d dimensions."""
    return d / gamma * (lengths.clamp(min=_LEAST_LENGTH).log() - (d - gamma) / d * math.log(n))


def _numbers_of_neighbors(ks: Sequence[int] | None, n: int, name: str) -> list[int]:
    """Return those that are asked for, or the default, among n points of an argument."""
    if ks is not None:
        return require_ks(ks, n)
    if n < 2:
        raise ValueError(f"{name}: at least 2 points are needed for a neighbor, not {n}")
    return list(default_ks(n))


def _graph_entropy(
    points: Any,
    name: str,
    ks: Sequence[int] | None,
    intrinsic_dim: int | None,
    gamma: float,
    scale: float,
) -> Any:
    gamma = require_positive("gamma", gamma)
    tensor = as_tensor_to_read(name, points)
    require_points(tensor, name)
    n, ambient = tensor.shape[-2:]
    if intrinsic_dim is None and ambient < 2:
        raise ValueError(f"intrinsic_dim: must be given for points of {ambient} coordinate ({name})")
    d = ambient - 1 if intrinsic_dim is None else require_integer("intrinsic_dim", intrinsic_dim, 1)
    try:
        lengths = ops.knn_distance_sums(tensor, _numbers_of_neighbors(ks, n, name), gamma)
    except ValueError as error:
        raise ValueError(str(error).replace("points:", f"{name}:", 1)) from None
    return like_input(entropy_of_lengths(lengths * scale**gamma, n, d, gamma), points)
