"""Differential entropy of a cloud of points and of the last stretch of a trajectory."""

from collections.abc import Sequence
from typing import Any

import torch

from pythermo import ops
from pythermo._checks import FLOAT_DTYPES, as_tensor, like_input, require_ks, require_positive

_PAPER_KS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

# L_k is not allowed below this, so that coinciding points have a finite entropy.
_LEAST_LENGTH = 1e-8


def default_ks(n: int) -> tuple[int, ...]:
    """Return the numbers of neighbours 1, 2, 5, ... 500 that are below n - 1, and n - 1 itself."""
    if n < 2:
        raise ValueError(f"n: at least 2 points are needed for a neighbour, not {n}")
    return (*(k for k in _PAPER_KS if k < n - 1), n - 1)


DEFAULT_KS = default_ks(1000)


def knn_graph_entropy(
    points: Any, ks: Sequence[int] = DEFAULT_KS, dim: int | None = None, gamma: float = 1.0
) -> Any:
    """Estimate the differential entropy of a distribution from points drawn from it, in nats.

    From the length L_k of the points' k-nearest-neighbour graph:
    ``S_k = (d / gamma) * (log L_k - (d - gamma) / d * log n)``.

    Parameters
    ----------
    points : Tensor or array [..., n, D]
        Clouds of n points; float32 or float64, finite.
    ks : sequence of int
        Numbers of neighbours, each from 1 to n - 1; the default is meant for n = 1000, see
        `default_ks` for others.
    dim : int, optional
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
        For a wrong shape, dtype, ``ks``, ``dim`` or ``gamma``, or a row that is not finite.

    Notes
    -----
    A constant that depends on k, d and gamma alone is left out: differences between clouds with the
    same n, k, d and gamma mean something, single values do not. The points are taken as independent;
    those of a trajectory are not, and a window shorter than some correlation times shows its path
    rather than the stationary distribution. L_k is not taken below 1e-8: then S_k is a bound. A
    relative error delta of the distances is an error of d * delta nats; here the distances of float32
    points have an error without a common sign of about 1e-8 after averaging.

    Source: Costa and Hero 2004, Leonenko et al. 2008; arXiv 2505.23489.
    """
    tensor = as_tensor("points", points)
    gamma = require_positive("gamma", gamma)
    if tensor.ndim < 2:
        raise ValueError(f"points: the shape must be [..., n, D], not {list(tensor.shape)}")
    n, ambient = tensor.shape[-2:]
    d = ambient - 1 if dim is None else dim
    if d < 1:
        raise ValueError(f"dim: must be at least 1, not {d} (points [..., {n}, {ambient}])")
    lengths = ops.knn_distance_sums(tensor, ks, gamma).clamp_(min=_LEAST_LENGTH)
    entropy = d / gamma * (lengths.log() - (d - gamma) / d * torch.tensor(float(n)).double().log())
    return like_input(entropy, points)


class TrajectoryEntropy:
    """Entropy of the last ``window`` points of a trajectory, kept in a ring buffer.

    Parameters
    ----------
    dim : int
        Number of weights D of each point; the entropy is that of the sphere of dimension D - 1.
    window : int
        Number of points n, in iterations.
    ks : sequence of int, optional
        Numbers of neighbours; `default_ks` of the window if not given.
    dtype : torch.dtype
        float32 or float64; that of the weights.

    Raises
    ------
    ValueError, TypeError
        For a dimension below 2, a window below 2, wrong ``ks`` or dtype.

    Notes
    -----
    Holds ``window * dim`` numbers. Source and assumptions: `knn_graph_entropy`.
    """

    def __init__(
        self,
        dim: int,
        window: int = 1000,
        ks: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dim < 2:
            raise ValueError(f"dim: must be at least 2, not {dim}")
        if window < 2:
            raise ValueError(f"window: must be at least 2, not {window}")
        if dtype not in FLOAT_DTYPES:
            raise TypeError(f"dtype: must be float32 or float64, not {dtype}")
        self.ks = require_ks(default_ks(window) if ks is None else ks, window)
        self._points = torch.zeros(window, dim, dtype=dtype)
        self._appended = 0

    @property
    def full(self) -> bool:
        """Whether the window holds as many points as it has room for."""
        return self._appended >= len(self._points)

    def append(self, weights: Any) -> None:
        """Add a point [D]; the oldest one is dropped when the window is full."""
        point = as_tensor("weights", weights)
        if point.shape != self._points.shape[1:] or point.dtype != self._points.dtype:
            raise ValueError(
                f"weights: must be {self._points.dtype} of shape {list(self._points.shape[1:])}, "
                f"not {point.dtype} of shape {list(point.shape)}"
            )
        self._points[self._appended % len(self._points)] = point.detach()
        self._appended += 1

    def entropy(self) -> torch.Tensor:
        """Return the entropies [len(ks)] in nats; NaN until the window is full."""
        if not self.full:
            return torch.full((len(self.ks),), torch.nan, dtype=torch.float64)
        result: torch.Tensor = knn_graph_entropy(self._points, self.ks)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here."""
        held = min(self._appended, len(self._points))
        return {
            "window": len(self._points),
            "appended": self._appended,
            "points": self._points[:held].clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another window of the same size."""
        points = state["points"]
        same_kind = points.shape[1:] == self._points.shape[1:] and points.dtype == self._points.dtype
        if state["window"] != len(self._points) or not same_kind:
            raise ValueError(
                f"state: a window of {state['window']} points of shape {list(points.shape[1:])}, "
                f"{points.dtype}, "
                f"does not fit one of {len(self._points)} of shape {list(self._points.shape[1:])}, "
                f"{self._points.dtype}"
            )
        self._points[: len(points)] = points
        self._appended = state["appended"]
