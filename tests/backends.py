"""The kernels of CUDA under the tests of the CPU's: emulated, or on a device through copies."""

import contextlib

import emulation
import pytest
import torch

from pythermo import _backends, _core

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)  # a device, where there is one
SCHEDULES = {"forward": 0, "backward": 1, "shuffled": 2}


class RaisingBackend(_backends.CudaBackend):
    """CUDA kernels whose steps raise at once, as those of the CPU do."""

    def step(self, name, weights, *arguments):
        super().step(name, weights, *arguments)
        self.raise_failed_steps(weights.device)


def emulated() -> RaisingBackend:
    backend = RaisingBackend(emulation.module(), lambda device: 0)
    backend.sphere_threads = 32  # a launch takes as long as it has threads
    return backend


class CopyingBackend(RaisingBackend):
    """Takes the CPU's tensors to the current CUDA device, lets its kernels work there, and brings them back."""

    def __init__(self) -> None:
        super().__init__(_core.cuda, lambda device: torch.cuda.current_stream(device).cuda_stream)

    def step(self, name, weights, grad, lr, radius):
        there = weights.detach().cuda()
        rate = lr.cuda() if isinstance(lr, torch.Tensor) else lr
        super().step(name, there, grad.detach().cuda(), rate, radius)
        weights.detach().copy_(there)

    def knn_distances(self, clouds, k, distances, indices):
        with _there(distances, indices) as there:
            return super().knn_distances(clouds.cuda(), k, *there)

    def knn_distance_sums(self, clouds, ks, gamma, sums):
        with _there(sums) as there:
            return super().knn_distance_sums(clouds.cuda(), ks, gamma, *there)

    def update_squared_distances(self, clouds, first, changed, matrix):
        with _there(matrix) as there:
            return super().update_squared_distances(clouds.cuda(), first, changed, *there)

    def matrix_distance_sums(self, matrix, ks, without, sums):
        with _there(sums) as there:
            super().matrix_distance_sums(matrix.cuda(), ks, without, *there)

    def sketch(self, weights, sums, seed):
        with _there(sums) as there:
            super().sketch(weights.cuda(), *there, seed)

    def gradient_sums(self, grad, center, total):
        there = total.cuda()
        sums = super().gradient_sums(grad.cuda(), center.cuda(), there)
        total.copy_(there)
        return sums.cpu()

    def simulate_sphere(self, settings, arrays, threads):
        there = {name: array if name == "measure_at" else array.cuda() for name, array in arrays.items()}
        super().simulate_sphere(settings, there, threads)
        for name, array in arrays.items():
            array.copy_(there[name])


@contextlib.contextmanager
def _there(*outputs):
    """Copies of outputs on the device, which are brought back."""
    there = [None if output is None else output.cuda() for output in outputs]
    yield there
    for output, copy in zip(outputs, there, strict=True):
        if output is not None:
            output.copy_(copy)
