"""Which native kernels work on a tensor: those of the CPU, and their peers on CUDA devices."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import torch
import torch.utils.dlpack

from pythermo import _core

# The capsule of a tensor, without the seven-fold overhead of Tensor.__dlpack__.
to_dlpack = torch.utils.dlpack.to_dlpack  # type: ignore[attr-defined]

# A row of points that is not finite: the indices of its cloud and its point.
BadRow = tuple[int, int] | None


class Backend(Protocol):
    """Kernels of one kind of device, over tensors that lie there."""

    def step(
        self,
        name: str,
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float | torch.Tensor,
        radius: float,
    ) -> None:
        """Make the step of a kernel's name in place; a learning rate [1] in float64 may lie on the device."""

    def raise_failed_steps(self, device: torch.device) -> None:
        """Raise ValueError if a step there has failed since this was asked last."""

    def knn_distances(
        self, clouds: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor | None
    ) -> BadRow:
        """Write distances [c * n * k] from points of clouds [c, n, D] to neighbours, and which these are."""

    def knn_distance_sums(
        self, clouds: torch.Tensor, ks: Sequence[int], gamma: float, sums: torch.Tensor
    ) -> BadRow:
        """Write the lengths [c * len(ks)] of neighbour graphs, for ascending ks."""

    def update_squared_distances(
        self, clouds: torch.Tensor, first: int, changed: int, matrix: torch.Tensor
    ) -> BadRow:
        """Bring the squared distances [n * n] among one cloud's points up to date."""

    def matrix_distance_sums(
        self, matrix: torch.Tensor, ks: Sequence[int], without: range, sums: torch.Tensor
    ) -> None:
        """Write the lengths [len(ks)] of the graphs of a matrix [n * n], some points left out."""

    def sketch(self, weights: torch.Tensor, sums: torch.Tensor, seed: int) -> None:
        """Write the random projection of weights to fewer numbers."""

    def gradient_sums(self, grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Return |g|^2 and |g - center|^2 [2], and add g to ``total``; both may be empty."""

    def simulate_sphere(
        self, settings: dict[str, Any], arrays: Mapping[str, torch.Tensor], threads: int
    ) -> None:
        """Run the chains of csrc/sphere_arrays.hpp: move the weights and fill the outputs."""

    def sphere_workspace_size(
        self, settings: dict[str, Any], chains: int, samples: int, element_bytes: int
    ) -> int:
        """Return how many float64 elements that takes beside the arrays."""


class CpuBackend:
    """The CPU's kernels, on as many threads as torch uses."""

    def step(
        self,
        name: str,
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float | torch.Tensor,
        radius: float,
    ) -> None:
        """Make the step; what is wrong is raised at once."""
        kernel = getattr(_core, name)
        kernel(to_dlpack(weights), to_dlpack(grad), float(lr), radius, torch.get_num_threads())

    def raise_failed_steps(self, device: torch.device) -> None:
        """Do nothing: `step` has raised."""

    def knn_distances(
        self, clouds: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor | None
    ) -> BadRow:
        """Find the neighbours; a signal stops it."""
        which = torch.empty(0, dtype=torch.int64) if indices is None else indices
        found = to_dlpack(distances), to_dlpack(which)
        bad: BadRow = _core.knn_distances(to_dlpack(clouds), k, *found, torch.get_num_threads())
        return bad

    def knn_distance_sums(
        self, clouds: torch.Tensor, ks: Sequence[int], gamma: float, sums: torch.Tensor
    ) -> BadRow:
        """Add up the distances to neighbours; a signal stops it."""
        bad: BadRow = _core.knn_distance_sums(
            to_dlpack(clouds), list(ks), gamma, to_dlpack(sums), torch.get_num_threads()
        )
        return bad

    def update_squared_distances(
        self, clouds: torch.Tensor, first: int, changed: int, matrix: torch.Tensor
    ) -> BadRow:
        """Update the matrix; a signal stops it."""
        bad: BadRow = _core.update_squared_distances(
            to_dlpack(clouds), first, changed, to_dlpack(matrix), torch.get_num_threads()
        )
        return bad

    def matrix_distance_sums(
        self, matrix: torch.Tensor, ks: Sequence[int], without: range, sums: torch.Tensor
    ) -> None:
        """Add up the distances; a signal stops it."""
        span = without.start, without.stop
        _core.matrix_distance_sums(
            to_dlpack(matrix), list(ks), 1.0, *span, to_dlpack(sums), torch.get_num_threads()
        )

    def sketch(self, weights: torch.Tensor, sums: torch.Tensor, seed: int) -> None:
        """Make the sketch."""
        _core.sketch(to_dlpack(weights), to_dlpack(sums), seed)

    def gradient_sums(self, grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Return the sums, and add to ``total``."""
        sums = grad.new_empty(2, dtype=torch.float64)
        _core.gradient_sums(
            to_dlpack(grad), to_dlpack(center), to_dlpack(total), to_dlpack(sums), torch.get_num_threads()
        )
        return sums

    def simulate_sphere(
        self, settings: dict[str, Any], arrays: Mapping[str, torch.Tensor], threads: int
    ) -> None:
        """Run the chains on so many threads."""
        _core.simulate_sphere(settings, _capsules(arrays), threads)

    def sphere_workspace_size(
        self, settings: dict[str, Any], chains: int, samples: int, element_bytes: int
    ) -> int:
        """Return 0: threads have some memory of their own."""
        return 0


# What StepError of csrc/cuda/projected_sgd_step.hpp says.
_STEP_ERRORS = {
    1: "grad: weights, gradient and the squared length of the step must be finite",
    2: "weights: all elements are zero; a point of the sphere is required",
    3: "grad: the step ends in the centre of the sphere, which has no direction",
    4: "weights: their norm is too far from the radius for their dtype",
    5: "lr: must be positive and finite in the weights' dtype",
}


class CudaBackend:
    """CUDA kernels, on torch's current stream.

    Parameters
    ----------
    kernels : module
        The module that has them: `_core.cuda`, or the tests' emulation of it.
    current_stream : callable
        Returns the address of the stream that a device works on.
    """

    # Results do not depend on these.
    threads = 256  # of a block
    step_threads = 512
    sphere_threads = 128
    sphere_work = 2**17  # gradients of samples that a chain computes in one launch: some 0.1 s
    workspace_bytes = 2**28  # for the squared distances that are kept at once, if 64 rows fit
    longest_sorted = 2048  # rows of so many squared distances are sorted as a whole

    def __init__(self, kernels: ModuleType, current_stream: Callable[[torch.device], int]) -> None:
        self._kernels = kernels
        self._current_stream = current_stream
        self._workspaces: dict[tuple[str, torch.device, int], torch.Tensor] = {}
        self._counters: dict[tuple[torch.device, int], torch.Tensor] = {}
        self._step_status: dict[torch.device, torch.Tensor] = {}

    def step(
        self,
        name: str,
        weights: torch.Tensor,
        grad: torch.Tensor,
        lr: float | torch.Tensor,
        radius: float,
    ) -> None:
        """Make the step without waiting for it; `raise_failed_steps` tells what went wrong."""
        with torch.cuda.device_of(weights):
            device, stream = weights.device, self._current_stream(weights.device)
            workspace = self._workspace("step", self._kernels.step_workspace_size(), device, stream)
            number, on_device = (0.0, lr) if isinstance(lr, torch.Tensor) else (lr, workspace[:0])
            getattr(self._kernels, name)(
                to_dlpack(weights),
                to_dlpack(grad),
                number,
                to_dlpack(on_device),
                radius,
                to_dlpack(workspace),
                to_dlpack(self._status(device)),
                stream,
                self.step_threads,
            )

    def raise_failed_steps(self, device: torch.device) -> None:
        """Wait for the steps on a device, on all of its streams; raise ValueError if one has failed since."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        code = int(self._status(device))
        if code != 0:
            self._status(device).zero_()
            raise ValueError(_STEP_ERRORS[code])

    def knn_distances(
        self, clouds: torch.Tensor, k: int, distances: torch.Tensor, indices: torch.Tensor | None
    ) -> BadRow:
        """Find the neighbours, and wait for them."""
        which = distances.new_empty(0, dtype=torch.int64) if indices is None else indices
        return self._run_knn("knn_distances", self._knn_size(clouds, k, 0), clouds, k, distances, which)

    def knn_distance_sums(
        self, clouds: torch.Tensor, ks: Sequence[int], gamma: float, sums: torch.Tensor
    ) -> BadRow:
        """Add up the distances to neighbours, and wait for the sums."""
        size = self._knn_size(clouds, max(ks), len(ks))
        return self._run_knn("knn_distance_sums", size, clouds, list(ks), gamma, sums)

    def update_squared_distances(
        self, clouds: torch.Tensor, first: int, changed: int, matrix: torch.Tensor
    ) -> BadRow:
        """Update the matrix, and wait for it."""
        size = self._kernels.knn_update_workspace_size(clouds.shape[1], changed, clouds.shape[2])
        return self._run_knn("update_squared_distances", size, clouds, first, changed, matrix)

    def matrix_distance_sums(
        self, matrix: torch.Tensor, ks: Sequence[int], without: range, sums: torch.Tensor
    ) -> None:
        """Add up the distances, and wait for the sums."""
        left = math.isqrt(len(matrix)) - len(without)
        size = self._kernels.knn_matrix_workspace_size(left, max(ks), len(ks), self.longest_sorted)
        span = without.start, without.stop
        self._run_knn("matrix_distance_sums", size, matrix, list(ks), 1.0, *span, sums)

    def sketch(self, weights: torch.Tensor, sums: torch.Tensor, seed: int) -> None:
        """Make the sketch without waiting for it."""
        with torch.cuda.device_of(weights):
            self._kernels.sketch(
                to_dlpack(weights), to_dlpack(sums), seed, self._current_stream(weights.device)
            )

    def _knn_size(self, clouds: torch.Tensor, k: int, ks: int) -> int:
        size: int = self._kernels.knn_workspace_size(
            *clouds.shape, k, ks, self.longest_sorted, self.workspace_bytes
        )
        return size

    def _run_knn(self, name: str, size: int, tensor: torch.Tensor, *arguments: Any) -> BadRow:
        """Run a kernel with a workspace of that size; return or raise what was wrong with the points."""
        kernels, device = self._kernels, tensor.device
        with torch.cuda.device_of(tensor):
            workspace = torch.empty(size, dtype=torch.float64, device=device)
            status = torch.full((1,), kernels.knn_fine, dtype=torch.int64, device=device)
            shared = kernels.KnnArguments(
                to_dlpack(workspace),
                to_dlpack(status),
                self._current_stream(device),
                self.threads,
                self.longest_sorted,
            )
            capsules = [to_dlpack(a) if isinstance(a, torch.Tensor) else a for a in (tensor, *arguments)]
            getattr(kernels, name)(*capsules, shared)
        found = int(status)
        if found == kernels.knn_too_far_apart:
            raise ValueError("points: too far apart, their squared distances overflow")
        return None if found == kernels.knn_fine else divmod(found, tensor.shape[-2])

    def gradient_sums(self, grad: torch.Tensor, center: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Return the sums, and add to ``total``, without waiting for either."""
        with torch.cuda.device_of(grad):
            device, stream = grad.device, self._current_stream(grad.device)
            workspace = self._workspace("gradient", self._kernels.gradient_workspace_size(), device, stream)
            counter = self._counter(device, stream)
            sums = grad.new_empty(2, dtype=torch.float64)
            self._kernels.gradient_sums(
                *map(to_dlpack, (grad, center, total, sums, workspace, counter)), stream, self.threads
            )
        return sums

    def _counter(self, device: torch.device, stream: int) -> torch.Tensor:
        """Return a number that is 0 between the kernels of one stream, which may count with it in turn."""
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return torch.zeros(1, dtype=torch.int64, device=device)  # the graph's own
        key = (device, stream)
        if key not in self._counters:
            self._counters[key] = torch.zeros(1, dtype=torch.int64, device=device)
        return self._counters[key]

    def _workspace(self, use: str, size: int, device: torch.device, stream: int) -> torch.Tensor:
        """Return float64 numbers that kernels of one stream may use in turn."""
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return torch.empty(size, dtype=torch.float64, device=device)  # the graph's own
        key = (use, device, stream)
        if key not in self._workspaces:
            self._workspaces[key] = torch.empty(size, dtype=torch.float64, device=device)
        return self._workspaces[key]

    def simulate_sphere(
        self, settings: dict[str, Any], arrays: Mapping[str, torch.Tensor], threads: int
    ) -> None:
        """Run the chains and wait for them; the threads of the CPU have no part in it."""
        weights, vectors = arrays["weights"], arrays["vectors"]
        size = self.sphere_workspace_size(
            settings, arrays["lr"].numel(), vectors.numel() // settings["dim"], weights.element_size()
        )
        workspace = torch.empty(size, dtype=torch.float64, device=weights.device)
        with torch.cuda.device_of(weights):
            self._kernels.simulate_sphere(
                settings,
                _capsules(arrays),
                to_dlpack(workspace),
                self._current_stream(weights.device),
                self.sphere_threads,
                self.sphere_work,
            )

    def sphere_workspace_size(
        self, settings: dict[str, Any], chains: int, samples: int, element_bytes: int
    ) -> int:
        """Return how many float64 elements the kernels work in."""
        size: int = self._kernels.sphere_workspace_size(
            settings, chains, samples, element_bytes, self.sphere_threads
        )
        return size

    def _status(self, device: torch.device) -> torch.Tensor:
        if device not in self._step_status:
            if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                raise RuntimeError("a CUDA graph captures steps only after one was made outside of it")
            self._step_status[device] = torch.zeros(1, dtype=torch.int64, device=device)
        return self._step_status[device]


def _cuda_stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream


# By the type of the device.
BACKENDS: dict[str, Backend] = {"cpu": CpuBackend()}
if hasattr(_core, "cuda"):
    BACKENDS["cuda"] = CudaBackend(_core.cuda, _cuda_stream)


def backend_of(name: str, tensor: torch.Tensor) -> Backend:
    """Return the kernels for a tensor's device, or raise ValueError naming the argument."""
    backend = BACKENDS.get(tensor.device.type)
    if backend is None:
        why = " (built without CUDA)" if tensor.is_cuda else ""
        raise ValueError(
            f"{name}: no kernel for the device {tensor.device}{why}; there are some for {', '.join(BACKENDS)}"
        )
    return backend


def _capsules(arrays: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: to_dlpack(array) for name, array in arrays.items()}
