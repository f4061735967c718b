"""Exact nearest neighbors against torch.cdist, faiss and a k-d tree: speed, and digits that are left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from pythermo import ops
from pythermo.bench.timing import median_seconds
from pythermo.estimators.entropy import default_ks

K = 50  # of the figures of arXiv 2505.23489

# Differences, squares and sums.
OPERATIONS_PER_PAIR_AND_COORDINATE = 3

SPREADS = (1.0, 1e-2, 1e-4, 1e-5, 1e-6, 1e-7)


@dataclass(frozen=True)
class SpeedResult:
    """Median seconds for nearest neighbors of clouds [clouds, n, dim], by contender; NaN where left out.

    ``sums`` are the lengths for all of the paper's numbers of neighbors, ``distances`` the 50 nearest.
    ``published`` is the paper's way: all distances in float64 by torch.cdist, and a full sort.
    """

    clouds: int
    points: int
    dim: int
    dtype: str
    threads: int
    published: float
    cdist_topk: float
    faiss: float
    tree: float
    sums: float
    distances: float
    peak: float

    @property
    def gigabytes(self) -> float:
        """Size of the points."""
        return self.clouds * self.points * self.dim * (4 if self.dtype == "float32" else 8) / 1e9

    @property
    def share_of_peak(self) -> float:
        """Operations per second, of those of the faster matrix product in the same dtype.

        NaN for few coordinates, where most pairs of points need not be looked at.
        """
        if self.dim <= 16:
            return math.nan
        pairs = self.clouds * self.points * (self.points - 1) / 2
        return OPERATIONS_PER_PAIR_AND_COORDINATE * pairs * self.dim / self.distances / self.peak


@dataclass(frozen=True)
class ErrorResult:
    """Largest relative error of the 10 nearest distances, by contender, for one kind of cloud and spread."""

    cloud: str
    spread: float
    cdist: float
    cdist_float64: float
    faiss: float
    pythermo: float
    pythermo_float64: float


def faiss_knn() -> Callable[[NDArray[Any], int], NDArray[Any]] | None:
    """Return faiss's exact float32 search: squared distances to the k nearest points, itself among them."""
    try:
        import faiss
    except ImportError:
        return None

    def search(points: NDArray[Any], k: int) -> NDArray[Any]:
        faiss.omp_set_num_threads(torch.get_num_threads())
        squared: NDArray[Any] = faiss.knn(points, points, k)[0]
        return squared

    return search


def published(points: Tensor) -> Tensor:
    """Return all distances, sorted, as the paper's code computes them."""
    wide = points.double()
    return torch.cdist(wide, wide).sort(dim=-1).values


def cdist_topk(points: Tensor, k: int) -> Tensor:
    """Return the distances to the k nearest points, itself among them."""
    return torch.cdist(points, points).topk(k, dim=-1, largest=False).values


def measure_many_coordinates(points: int, dim: int, rounds: int) -> SpeedResult:
    """Measure one cloud of float32 points: the window of a network's training."""
    cloud = torch.nn.functional.normalize(_normal(points, dim), dim=1)
    contenders: dict[str, Callable[[], object]] = {
        "published": lambda: published(cloud),
        "sums": lambda: ops.knn_distance_sums(cloud, default_ks(points)),
        "distances": lambda: ops.knn_distances(cloud, K),
    }
    search = faiss_knn()
    if search is not None:
        array = cloud.numpy()
        contenders["faiss"] = lambda: search(array, K + 1)
    return _result(cloud[None], median_seconds(contenders, rounds, 0.5))


def measure_small_clouds(clouds: int, points: int, dtype: torch.dtype, rounds: int) -> SpeedResult:
    """Measure many clouds of points in three dimensions: the chains of a toy."""
    batch = _normal(clouds, points, 3).to(dtype)
    arrays = list(batch.numpy())
    narrow = [array.astype(np.float32) for array in arrays]
    contenders: dict[str, Callable[[], object]] = {
        "published": lambda: published(batch),
        "cdist_topk": lambda: cdist_topk(batch, K + 1),
        "tree": lambda: [
            cKDTree(array).query(array, K + 1, workers=torch.get_num_threads()) for array in arrays
        ],
        "sums": lambda: ops.knn_distance_sums(batch, default_ks(points)),
        "distances": lambda: ops.knn_distances(batch, K),
    }
    search = faiss_knn()
    if search is not None:
        contenders["faiss"] = lambda: [search(array, K + 1) for array in narrow]
    return _result(batch, median_seconds(contenders, rounds, 0.3))


def measure_huge_window(points: int, dim: int) -> SpeedResult | None:
    """Measure once the window of a wide network, or return None where its points do not fit into memory."""
    if 4.5 * points * dim > psutil.virtual_memory().available:
        return None
    cloud = torch.empty(points, dim)
    generator = torch.Generator().manual_seed(1)
    for row in cloud:
        row.normal_(generator=generator)
    return _result(cloud[None], {"distances": _seconds(lambda: ops.knn_distances(cloud, K))})


def measure_many_points(points: int, rounds: int) -> SpeedResult:
    """Measure one large cloud in three dimensions: the points of a calibration. faiss takes its turn once."""
    cloud = _normal(points, 3).double()
    array, narrow = cloud.numpy(), cloud.float().numpy()
    seconds = median_seconds(
        {
            "tree": lambda: cKDTree(array).query(array, K + 1, workers=torch.get_num_threads()),
            "distances": lambda: ops.knn_distances(cloud, K),
        },
        rounds,
        0.5,
    )
    search = faiss_knn()
    if search is not None:
        seconds["faiss"] = _seconds(lambda: search(narrow, K + 1))
    return _result(cloud[None], seconds)


def measure_errors(points: int = 200, dim: int = 1000) -> list[ErrorResult]:
    """Compare what each contender makes of the clouds and trajectories that runs leave behind."""
    return [
        _errors(name, spread, around(spread))
        for name, around in _clouds(points, dim).items()
        for spread in SPREADS
    ]


def speed_table(results: list[SpeedResult]) -> str:
    """Lay the times out as a Markdown table, with the speed-up over each contender."""
    lines = [
        "| clouds | n | D | dtype | GB | threads | paper's way (s) | cdist + topk | faiss | cKDTree "
        "| pythermo, all k | pythermo, k = 50 | x paper | x cdist + topk | x faiss | x cKDTree | % of peak |",
        "|" + "---|" * 17,
    ]
    lines += [
        f"| {r.clouds} | {r.points} | {r.dim} | {r.dtype} | {r.gigabytes:.2g} | {r.threads} "
        + "".join(
            f"| {_number(value, '.4f')} "
            for value in (r.published, r.cdist_topk, r.faiss, r.tree, r.sums, r.distances)
        )
        + "".join(
            f"| {_number(value, '.1f')} "
            for value in (
                r.published / r.sums,
                r.cdist_topk / r.distances,
                r.faiss / r.distances,
                r.tree / r.distances,
            )
        )
        + f"| {_number(100 * r.share_of_peak, '.0f')} |"
        for r in results
    ]
    return "\n".join(lines)


def error_table(results: list[ErrorResult]) -> str:
    """Lay the errors out as a Markdown table."""
    lines = [
        "| cloud | spread | torch.cdist float32 | faiss float32 | pythermo float32 | torch.cdist float64 "
        "| pythermo float64 |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| {r.cloud} | {r.spread:g} | {_number(r.cdist, '.1e')} | {_number(r.faiss, '.1e')} "
        f"| {_number(r.pythermo, '.1e')} | {_number(r.cdist_float64, '.1e')} "
        f"| {_number(r.pythermo_float64, '.1e')} |"
        for r in results
    ]
    return "\n".join(lines)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _result(points: Tensor, seconds: dict[str, float]) -> SpeedResult:
    clouds, n, dim = points.shape
    names = ("published", "cdist_topk", "faiss", "tree", "sums", "distances")
    return SpeedResult(
        clouds=clouds,
        points=n,
        dim=dim,
        dtype=str(points.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        peak=_peak(points.dtype),
        **{name: seconds.get(name, math.nan) for name in names},
    )


def _peak(dtype: torch.dtype, side: int = 1024) -> float:
    """Return operations per second of a matrix product by torch (MKL) or numpy (OpenBLAS), the faster one."""
    matrix = torch.ones(side, side, dtype=dtype)
    array = matrix.numpy()
    products = median_seconds({"torch": lambda: matrix @ matrix, "numpy": lambda: array @ array}, 5, 0.1)
    return 2 * side**3 / min(products.values())


def _clouds(points: int, dim: int) -> dict[str, Callable[[float], Tensor]]:
    """Return clouds of float64 points about a point of the unit sphere, as functions of their spread."""
    center = torch.nn.functional.normalize(_normal(dim).double(), dim=0)
    noise = _normal(points, dim).double() / math.sqrt(dim)
    along = torch.nn.functional.normalize(noise.sum(0), dim=0)
    line = torch.arange(points)[:, None] / points * along
    return {
        "isotropic": lambda spread: center + spread * noise,
        "random walk": lambda spread: center + spread * noise.cumsum(0) / math.sqrt(points),
        "line with jitter": lambda spread: center + spread * (line + 1e-3 * noise),
    }


def _errors(name: str, spread: float, points: Tensor, k: int = 10) -> ErrorResult:
    single, double = points.float(), points
    of_single, of_double = _exact_distances(single, k), _exact_distances(double, k)
    search = faiss_knn()
    faiss = math.nan
    if search is not None:
        squared = np.maximum(search(single.numpy(), k + 1)[:, 1:], 0.0)
        faiss = _largest_error(np.sqrt(squared), of_single)
    return ErrorResult(
        cloud=name,
        spread=spread,
        cdist=_largest_error(cdist_topk(single, k + 1)[:, 1:].numpy(), of_single),
        cdist_float64=_largest_error(cdist_topk(double, k + 1)[:, 1:].numpy(), of_double),
        faiss=faiss,
        pythermo=_largest_error(ops.knn_distances(single, k).numpy(), of_single),
        pythermo_float64=_largest_error(ops.knn_distances(double, k).numpy(), of_double),
    )


def _exact_distances(points: Tensor, k: int) -> NDArray[Any]:
    """Return the distances [n, k] to the k nearest points in extended precision."""
    wide = points.numpy().astype(np.longdouble)
    return np.array([np.sort(np.sqrt(((wide - point) ** 2).sum(axis=1)))[1 : k + 1] for point in wide])


def _largest_error(found: NDArray[Any], exact: NDArray[Any]) -> float:
    return float(np.max(np.abs(found - exact) / exact))
