"""Steps on the sphere, and with weight decay in full space."""

import os
import threading
from functools import partial

import numpy as np
import pytest
import torch
from place import FLOAT32, FLOAT64, Place, View, normal, on_another_stream, within

from pythermo import ops

_WEIGHT_DECAY = 0.5
STEPS = {
    "projected": ops.projected_sgd_step_,
    "exponential": ops.exponential_sgd_step_,
    "fixed lr": partial(ops.fixed_lr_step_, weight_decay=_WEIGHT_DECAY),
    "fixed elr": partial(ops.fixed_elr_step_, weight_decay=_WEIGHT_DECAY),
}

# Roundings of the moved vector, of its length and of their product; of five numbers along a great circle; of
# two factors, two products and their difference.
LIMIT = {"projected": 2.0, "exponential": 3.0, "fixed lr": 3.0, "fixed elr": 3.0}


def sizes(place: Place) -> tuple[int, ...]:
    small = (1, 7, 33, 1000, 1025, 24_408)
    return small if place.sizes != "full" else (*small, 300_001, 1_550_016, 11_159_232)


def exact_step(kind: str, weights: torch.Tensor, grad: torch.Tensor, lr: float) -> np.ndarray:
    """Return the step in extended precision: torch's float64 norms are off by 4 eps and more beyond D = 1e5."""
    w, g = weights.numpy().astype(np.longdouble), grad.numpy().astype(np.longdouble)
    if kind == "projected":
        moved = w - lr * g
        return moved / np.sqrt(np.sum(moved * moved))
    if kind != "exponential":
        eta = lr * np.sum(w * w) if kind == "fixed elr" else lr
        return w - eta * (g + _WEIGHT_DECAY * w)
    w = w / np.sqrt(np.sum(w * w))
    tangent = g - np.sum(g * w) * w
    length = np.sqrt(np.sum(tangent * tangent))
    return np.cos(lr * length) * w - np.sin(lr * length) * tangent / length


def run(place: Place) -> None:
    for dtype in (FLOAT32, FLOAT64):
        for kind in STEPS:
            for size in sizes(place):
                if size == 1 and kind == "exponential":
                    continue  # no direction is tangent there
                for offset in (0, 1, 3) if size < 10**6 else (0,):
                    place.check(
                        f"{kind} step, {dtype}, D = {size}, from element {offset}",
                        lambda kind=kind, dtype=dtype, size=size, offset=offset: one_step(
                            place, kind, dtype, size, offset
                        ),
                    )
    place.check("step: the same bits for any block size", lambda: same_bits(place))
    place.check("step: what fails is told once, weights are left alone", lambda: failures(place))
    if place.fake:
        return
    place.check("step: on another stream and from another thread", streams_and_threads)
    if "PYTORCH_NO_CUDA_MEMORY_CACHING" not in os.environ:  # without the cache a capture cannot allocate
        place.check("step: in a CUDA graph", captured)


def on_sphere(size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    weights, grad = normal(size, seed=1, dtype=dtype), normal(size, seed=2, dtype=dtype)
    return weights / weights.norm(), 3 * grad / grad.norm()


def one_step(place: Place, kind: str, dtype: torch.dtype, size: int, offset: int) -> str:
    weights, grad = on_sphere(size, dtype)
    there = View(weights, offset, place.device)
    there_grad = View(grad, (offset + 1) % 4, place.device)
    with place.in_place_of_the_cpu():
        STEPS[kind](there.tensor, there_grad.tensor, 0.25)
    ops.raise_failed_steps(there.tensor.device)
    there.require_untouched_surroundings()
    exact = exact_step(kind, weights, grad, 0.25)
    off = np.abs(there.tensor.cpu().numpy() - exact).max() / np.abs(exact).max()
    return within(float(off / torch.finfo(dtype).eps), LIMIT[kind], " eps")


def same_bits(place: Place) -> None:
    size = 1_550_016 if place.sizes == "full" else 24_408
    for kind, step in STEPS.items():
        for dtype in (FLOAT32, FLOAT64):
            start, grad = (tensor.to(place.device) for tensor in on_sphere(size, dtype))
            found = []
            for threads in (32, 64, 160, 512):
                with place.settings(step_threads=threads), place.in_place_of_the_cpu():
                    found.append(step(start.clone(), grad, 0.01))
            assert all(torch.equal(found[0], other) for other in found[1:]), (kind, dtype)


def failures(place: Place) -> None:
    ones = torch.ones(100, device=place.device)
    cases = [
        (ones.clone(), ones * torch.nan, 0.1, "must be finite"),
        (ones * 0, ones, 0.1, "are zero"),
        (ones.clone(), ones, 1.0, "no direction"),
    ]
    if not place.fake:  # the CPU's learning rates are read, and refused, before the kernel
        cases.append((ones.clone(), ones, torch.full((1,), -0.1, dtype=FLOAT64, device=place.device), "lr: "))
    for weights, grad, lr, said in cases:
        before = weights.clone()
        with place.in_place_of_the_cpu():
            ops.projected_sgd_step_(weights, grad, lr)
        with pytest.raises(ValueError, match=said):
            ops.raise_failed_steps(weights.device)
        assert torch.equal(weights, before), f"the weights have changed: {said!r}"
    ops.raise_failed_steps(ones.device)


def streams_and_threads() -> None:
    start, grad = (tensor.cuda() for tensor in on_sphere(100_003, FLOAT32))
    expected = ops.projected_sgd_step_(start.clone(), grad, 0.01)
    beside = on_another_stream(lambda: ops.projected_sgd_step_(start.clone(), grad, 0.01))
    found = []
    thread = threading.Thread(target=lambda: found.append(ops.projected_sgd_step_(start.clone(), grad, 0.01)))
    thread.start()
    thread.join()
    ops.raise_failed_steps("cuda")
    assert torch.equal(expected, beside), "other bits on another stream"
    assert torch.equal(expected, found[0]), "other bits from another thread"


def captured() -> None:
    start, grad = (tensor.cuda() for tensor in on_sphere(1_550_016, FLOAT32))
    lr = torch.full((1,), 0.01, dtype=FLOAT64, device="cuda")
    expected, weights = start.clone(), start.clone()
    for _ in range(20):
        ops.projected_sgd_step_(expected, grad, 0.01)
    on_another_stream(lambda: ops.projected_sgd_step_(weights, grad, lr))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            ops.projected_sgd_step_(weights, grad, lr)
    weights.copy_(start)
    graph.replay()
    graph.replay()
    ops.raise_failed_steps("cuda")
    assert torch.equal(expected, weights), "other bits than without a graph"
