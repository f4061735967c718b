from typing import Any

_Capsule = Any

version: str
compiler: str

def instruction_sets() -> list[str]: ...
def chosen_instruction_set() -> str: ...
def choose_instruction_set(name: str) -> None: ...
def cuda_description() -> str: ...
def projected_sgd_step(weights: _Capsule, grad: _Capsule, lr: float, radius: float, threads: int) -> None: ...
def exponential_sgd_step(
    weights: _Capsule, grad: _Capsule, lr: float, radius: float, threads: int
) -> None: ...
def simulate_sphere(settings: dict[str, Any], arrays: dict[str, _Capsule], threads: int) -> None: ...
def sphere_indices(
    out: _Capsule, replicas: int, batch_size: int, samples: int, epochs: bool, seed: int, first_step: int
) -> None: ...
def sphere_normals(
    out: _Capsule, replicas: int, dim: int, start: bool, seed: int, first_step: int
) -> None: ...
def knn_distances(
    points: _Capsule, k: int, distances: _Capsule, indices: _Capsule, threads: int
) -> tuple[int, int] | None: ...
def knn_distance_sums(
    points: _Capsule, ks: list[int], gamma: float, sums: _Capsule, threads: int
) -> tuple[int, int] | None: ...
def update_squared_distances(
    points: _Capsule, first: int, changed: int, matrix: _Capsule, threads: int
) -> tuple[int, int] | None: ...
def matrix_distance_sums(
    matrix: _Capsule,
    ks: list[int],
    gamma: float,
    without: int,
    without_end: int,
    sums: _Capsule,
    threads: int,
) -> None: ...
def gradient_sums(
    grad: _Capsule, center: _Capsule, total: _Capsule, sums: _Capsule, threads: int
) -> None: ...
def sketch(weights: _Capsule, out: _Capsule, seed: int) -> None: ...
def batch_norm_relu(
    x: _Capsule, width: int, pool: int, eps: float, output: _Capsule, statistics: _Capsule, threads: int
) -> None: ...
def batch_norm_relu_backward(
    x: _Capsule,
    width: int,
    pool: int,
    output: _Capsule,
    statistics: _Capsule,
    grad: _Capsule,
    grad_x: _Capsule,
    threads: int,
) -> None: ...
