"""The kernels that run chains of small systems; `pythermo.sphere.simulate` is their door."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from pythermo import _core
from pythermo.ops._backends import CUDA, capsules, kernel, stream_of


@dataclass(frozen=True)
class SphereSettings:
    """What csrc/sphere_arrays.hpp calls the settings of a simulation."""

    dim: int
    sigma: float  # of isotropic noise
    batch_size: int
    epochs: bool
    seed: int
    protocol: str
    retraction: str
    weight_decay: float
    first_step: int
    last_step: int
    window: int
    stride: int


# By the names of csrc/sphere_arrays.hpp; all on one device but measure_at, which stays on the CPU.
Arrays = Mapping[str, torch.Tensor]


@kernel("cpu", "simulate_sphere")
def _(settings: SphereSettings, arrays: Arrays, threads: int) -> None:
    _core.simulate_sphere(asdict(settings), _named_capsules(arrays), threads)


@kernel("cuda", "simulate_sphere")
def _(settings: SphereSettings, arrays: Arrays, threads: int) -> None:
    weights = arrays["weights"]
    samples = arrays["vectors"].numel() // settings.dim
    size = _cuda_workspace_size(settings, arrays["lr"].numel(), samples, weights.element_size())
    workspace = torch.empty(size, dtype=torch.float64, device=weights.device)
    with torch.cuda.device_of(weights):
        launch = CUDA.native.SphereLaunch(
            *capsules(workspace), stream_of(weights), CUDA.sphere_threads, CUDA.sphere_work
        )
        CUDA.native.simulate_sphere(asdict(settings), _named_capsules(arrays), launch)


@kernel("cpu", "sphere_workspace_size")
def _(settings: SphereSettings, chains: int, samples: int, element_bytes: int) -> int:
    return 0  # threads have some memory of their own


@kernel("cuda", "sphere_workspace_size")
def _cuda_workspace_size(settings: SphereSettings, chains: int, samples: int, element_bytes: int) -> int:
    size: int = CUDA.native.sphere_workspace_size(
        asdict(settings), chains, samples, element_bytes, CUDA.sphere_threads
    )
    return size


def _named_capsules(arrays: Arrays) -> dict[str, object]:
    return dict(zip(arrays, capsules(*arrays.values()), strict=True))
