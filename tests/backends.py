"""The kernels of CUDA under the tests of the CPU's: emulated, or on a device through copies."""

import emulation
import torch

from pythermo import _backends, _core

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

    def step(self, name, weights, grad, lr, radius, lr_on_device):
        there = weights.detach().cuda()
        lr_there = None if lr_on_device is None else lr_on_device.cuda()
        super().step(name, there, grad.detach().cuda(), lr, radius, lr_there)
        weights.detach().copy_(there)

    def simulate_sphere(self, settings, arrays, threads):
        there = {name: array if name == "measure_at" else array.cuda() for name, array in arrays.items()}
        super().simulate_sphere(settings, there, threads)
        for name, array in arrays.items():
            array.copy_(there[name])
