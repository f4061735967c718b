"""Entropy of the last stretch of a trajectory, and how far to trust it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from pythermo import ops
from pythermo._checks import as_tensor_to_read, is_float, require_integer, require_ks, require_values
from pythermo.estimators.autocorrelation import time_of_covariances, trajectory_autocorrelation_time
from pythermo.estimators.entropy import (
    block_edges,
    default_ks,
    entropy_of_lengths,
    jackknife_error,
    knn_graph_entropy,
    knn_graph_entropy_error,
)
from pythermo.ops._devices import require_device

# A window of fewer independent points than this shows a path, not a distribution.
FEW_POINTS = 5.0

_BLOCKS = 10


class CorrelatedWindowWarning(UserWarning):
    """An entropy was taken from a window that is shorter than a few autocorrelation times."""


@dataclass(frozen=True)
class EntropyEstimate:
    """An entropy and how far to trust it.

    Attributes
    ----------
    entropy, standard_error : Tensor [len(ks)]
        Nats. The error is that of `knn_graph_entropy_error`, with 10 blocks.
    autocorrelation_time : float
        Of the trajectory, in iterations (`trajectory_autocorrelation_time`).
    effective_samples : float
        The window over that time: how many independent points it is worth.
    """

    entropy: torch.Tensor
    standard_error: torch.Tensor
    autocorrelation_time: float
    effective_samples: float


class TrajectoryEntropy:
    """Entropy of the last ``window`` points of a trajectory, kept in a ring buffer.

    Parameters
    ----------
    dim : int
        Number of weights D of each point; the entropy is that of the sphere of dimension D - 1.
    window : int
        Number of points n, in iterations.
    ks : sequence of int, optional
        Numbers of neighbors; `default_ks` of the window if not given.
    dtype : torch.dtype
        torch.float32 or torch.float64; that of the weights.
    sketch : int, optional
        Keep this many numbers m of each point (`pythermo.ops.sketch`), not all D: for windows that do not
        fit into memory.
    seed : int
        Of the sketch.
    device : torch.device or str
        Where the points are kept and their distances computed; they may be appended from another one.
    pinned : bool
        Keep the points in pinned memory of the host, where a CUDA device writes them without being waited
        for: for windows that do not fit onto the device.

    Raises
    ------
    ValueError, TypeError
        For a dimension below 2, a window below 2, wrong ``ks``, dtype, ``sketch``, seed or device.

    Notes
    -----
    Holds ``window * dim`` numbers, or ``window * m`` in float64. Where they are fewer than those, it also
    holds the window^2 distances: successive measurements share what their windows share, and only distances
    to new points are computed. Source and assumptions: `knn_graph_entropy`.

    A sketch leaves squared distances unchanged on average, with a relative standard deviation of sqrt(2 / m)
    each. What that does to S at k = n - 1, where all distances count: a bias of ``-d / (4 m)`` nats and a
    standard deviation of ``d / sqrt(2 m r)``, with r the number of directions that the cloud is spread over
    (the participation ratio of its covariance; n for independent points of many dimensions, a few for a
    random walk). At small k the nearest of points that are hardly nearer than others are those whose error is
    most negative: a bias of up to ``-2.06 d / sqrt(2 m)`` at k = 50 of 1000 independent points. Biases are
    the same for clouds of the same shape; take k = n - 1 or compare like with like. With m = 1000 and
    independent points in D = 100 000: -0.0003 d and 0.0008 d at k = 999, -0.037 d at k = 50.

    Examples
    --------
    >>> window = pt.TrajectoryEntropy(dim=5, window=100, ks=[10])
    >>> for weights in torch.randn(100, 5, generator=torch.Generator().manual_seed(0)):
    ...     window.append(weights)
    >>> window.full, window.entropy().shape
    (True, torch.Size([1]))
    """

    def __init__(
        self,
        dim: int,
        window: int = 1000,
        ks: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        sketch: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        pinned: bool = False,
    ) -> None:
        dim, window = require_integer("dim", dim, 2), require_integer("window", window, 2)
        if not (isinstance(dtype, torch.dtype) and is_float(dtype)):
            raise TypeError(f"dtype: must be torch.float32 or torch.float64, not {dtype!r}")
        sketch = None if sketch is None else require_integer("sketch", sketch, 1, dim)
        seed = require_integer("seed", seed, 0, 2**63 - 1)
        if not isinstance(pinned, bool):
            raise TypeError(f"pinned: must be True or False, not {pinned!r}")
        where = require_device(str(device))
        if pinned and (where.type != "cpu" or not torch.cuda.is_available()):
            raise ValueError(f"pinned: is for memory of the host beside a CUDA device, not for {where}")
        self.ks = require_ks(default_ks(window) if ks is None else ks, window)
        self._dim, self._dtype, self._sketch, self._seed = dim, dtype, sketch, seed
        kept, kind = (dim, dtype) if sketch is None else (sketch, torch.float64)
        self._points = torch.zeros(window, kept, dtype=kind, device=where, pin_memory=pinned)
        self._appended = 0
        self._writer: torch.device | None = None  # the device that may still write into pinned memory
        self._distances: _SharedDistances | None = None
        if 8 * window**2 <= self._points.nbytes:
            self._distances = _SharedDistances(self._points)
        self._warned = False

    @property
    def full(self) -> bool:
        """Whether the window holds as many points as it has room for."""
        return self._appended >= len(self._points)

    def append(self, weights: Any) -> None:
        """Add a point [D], a tensor or an array; the oldest one is dropped when the window is full."""
        point = as_tensor_to_read("weights", weights)
        require_values("weights", point)
        if point.shape != (self._dim,) or point.dtype != self._dtype:
            raise ValueError(
                f"weights: must be {self._dtype} of shape [{self._dim}], "
                f"not {point.dtype} of shape {list(point.shape)}"
            )
        place = self._points[self._appended % len(self._points)]
        if self._sketch is None:
            place.copy_(point.detach(), non_blocking=True)
        else:
            place.copy_(ops.sketch(point.detach().contiguous(), self._sketch, self._seed), non_blocking=True)
        if point.is_cuda and self._points.is_cpu:
            self._writer = point.device
        self._appended += 1

    def entropy(self) -> torch.Tensor:
        """Return the entropies [len(ks)] in nats; NaN until the window is full.

        Warns once, with `CorrelatedWindowWarning`, if the window is shorter than 5 autocorrelation times of
        the trajectory: it then shows the path of the weights rather than their stationary distribution.
        """
        if not self.full:
            return self._nothing()
        entropy = self._entropy()
        if not self._warned:
            self._warn(self._autocorrelation_time())
        return entropy

    def estimate(self) -> EntropyEstimate:
        """Return the entropies with their standard errors and the window's effective size; never warns."""
        if not self.full:
            return self.no_estimate()
        entropy, time = self._entropy(), self._autocorrelation_time()
        return EntropyEstimate(entropy, self._standard_error(), time, len(self._points) / time)

    def mean(self) -> torch.Tensor:
        """Return the mean [dim] of the points, in float64; NaN until the window is full.

        Raises
        ------
        ValueError
            For a window that keeps sketches of its points.
        """
        if self._sketch is not None:
            raise ValueError("sketch: a window of sketches has no mean of its points")
        if not self.full:
            return torch.full((self._dim,), torch.nan, dtype=torch.float64)
        self._wait_for_points()
        return self._points.mean(dim=0, dtype=torch.float64)

    def no_estimate(self) -> EntropyEstimate:
        """Return what `estimate` does while the window is not full: NaN throughout."""
        return EntropyEstimate(self._nothing(), self._nothing(), torch.nan, torch.nan)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here."""
        self._wait_for_points()
        held = min(self._appended, len(self._points))
        return {
            "window": len(self._points),
            "seed": None if self._sketch is None else self._seed,
            "appended": self._appended,
            "points": self._points[:held].to("cpu", copy=True),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another window of the same size."""
        self._wait_for_points()
        points = state["points"]
        same_kind = points.shape[1:] == self._points.shape[1:] and points.dtype == self._points.dtype
        if state["window"] != len(self._points) or not same_kind:
            raise ValueError(
                f"state: a window of {state['window']} points of shape {list(points.shape[1:])}, "
                f"{points.dtype}, "
                f"does not fit one of {len(self._points)} of shape {list(self._points.shape[1:])}, "
                f"{self._points.dtype}"
            )
        if state["seed"] != (None if self._sketch is None else self._seed):
            raise ValueError(f"state: a sketch of the seed {state['seed']} does not fit {self._seed}")
        self._points[: len(points)].copy_(points)
        self._appended = state["appended"]
        if self._distances is not None:
            self._distances.forget()

    def _nothing(self) -> torch.Tensor:
        return torch.full((len(self.ks),), torch.nan, dtype=torch.float64)

    def _in_order(self) -> torch.Tensor:
        """Return a copy of the points, the oldest first."""
        return self._points.roll(-(self._appended % len(self._points)), 0)

    def _wait_for_points(self) -> None:
        """Wait for those that a device still writes into pinned memory."""
        if self._writer is not None:
            torch.cuda.synchronize(self._writer)
            self._writer = None

    def _entropy(self) -> torch.Tensor:
        self._wait_for_points()
        if self._distances is None:
            result: torch.Tensor = knn_graph_entropy(self._points, self.ks, intrinsic_dim=self._dim - 1)
            return result
        lengths = self._distances.update(self._appended).lengths(self.ks)
        return entropy_of_lengths(lengths, len(self._points), self._dim - 1, 1.0)

    def _standard_error(self) -> torch.Tensor:
        n, blocks = len(self._points), min(_BLOCKS, len(self._points) // 2)
        if blocks < 2:
            return self._nothing()
        if self._distances is None:
            error: torch.Tensor = knn_graph_entropy_error(
                self._in_order(), self.ks, intrinsic_dim=self._dim - 1, blocks=blocks
            )
            return error
        distances, left_out = self._distances.update(self._appended), []
        for first, last in pairwise(block_edges(n, blocks)):
            left = n - (last - first)
            lengths = distances.lengths([min(k, left - 1) for k in self.ks], first, last)
            left_out.append(entropy_of_lengths(lengths, left, self._dim - 1, 1.0))
        return jackknife_error(torch.stack(left_out))

    def _autocorrelation_time(self) -> float:
        if self._distances is None:
            return float(trajectory_autocorrelation_time(self._in_order().cpu().numpy()))
        return self._distances.update(self._appended).autocorrelation_time()

    def _warn(self, time: float) -> None:
        if len(self._points) < FEW_POINTS * time:
            self._warned = True
            warnings.warn(
                f"the entropy of a window of {len(self._points)} points with an autocorrelation time of at "
                f"least {time:.0f} shows their path, not a stationary distribution; take a longer window or "
                "compare it only with windows of the same kind (estimate() tells the effective number of "
                "points without this warning)",
                CorrelatedWindowWarning,
                stacklevel=3,
            )


class _SharedDistances:
    """The squared distances between a ring buffer's points, brought up to date by those to new points."""

    def __init__(self, points: torch.Tensor) -> None:
        self._points = points
        self._squared: torch.Tensor | None = None
        self._appended = 0

    def forget(self) -> None:
        """Compute everything anew next time."""
        self._squared = None

    def update(self, appended: int) -> "_SharedDistances":
        """Take in the points of a full buffer after so many have been appended."""
        n = len(self._points)
        new = appended - self._appended
        if self._squared is None or new >= n:
            self._squared = torch.empty(n, n, dtype=torch.float64, device=self._points.device)
            first, new = 0, n
        else:
            first = self._appended % n
        before_end = min(new, n - first)
        for begin, count in ((first, before_end), (0, new - before_end)):
            if count > 0:
                ops.update_squared_distances_(self._squared, self._points, begin, count)
        self._appended = appended
        return self

    def lengths(self, ks: Sequence[int], first: int = 0, last: int = 0) -> torch.Tensor:
        """Return the lengths L_k [len(ks)] without the points ``first`` to ``last - 1``, by age."""
        assert self._squared is not None
        n, count = len(self._points), last - first
        begin = (first + self._appended) % n
        if begin + count <= n:
            sums: torch.Tensor = ops.matrix_distance_sums(self._squared, ks, begin, begin + count)
        else:
            rolled = self._squared.roll((-begin, -begin), (0, 1))
            sums = ops.matrix_distance_sums(rolled, ks, 0, count)
        return sums

    def autocorrelation_time(self) -> float:
        """Return the trajectory's autocorrelation time, by its mean squared displacement at each lag."""
        assert self._squared is not None
        n = len(self._points)
        start = self._appended % n
        squared = self._squared.roll((-start, -start), (0, 1)).cpu().fill_diagonal_(0.0)
        total = float(squared.mean())
        if total == 0.0:
            return torch.nan
        covariances = torch.full((1, n), torch.nan, dtype=torch.float64)
        for lag in range(n // 2 + 1):
            covariances[0, lag] = total - squared.diagonal(lag).mean()
        return float(time_of_covariances(covariances.numpy())[0])
