import sys

import numpy as np
import torch
from sphere_reference import trajectory

from pythermo import sphere
from pythermo.bench import sphere as bench


def test_the_autograd_loop_steps_as_the_simulator(monkeypatch):
    seen = []
    monkeypatch.setattr(bench.torch, "randint", lambda high, size: torch.tensor([0, 2, 1, 1]))
    real = bench.torch.autograd.grad

    def spy(loss, w):
        seen.append(w.detach().numpy().copy())
        return real(loss, w)

    monkeypatch.setattr(bench.torch.autograd, "grad", spy)
    system = sphere.underparameterized()
    bench.autograd_loop(system, lrs=1, steps=4)
    expected = trajectory(system, sphere.PAPER_START, bench.LR, [[0], [2], [1]])
    np.testing.assert_allclose(seen, expected, atol=1e-15)


def test_without_numba_its_column_is_empty(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert np.isnan(bench.measure_toy(8, 8, 1).numba)


def test_the_numba_kernel_does_the_same_arithmetic():
    kernel = bench.numba_kernel()
    assert kernel is not None
    system, weights = sphere.underparameterized(), np.tile(sphere.PAPER_START, (9, 1))
    threads = torch.get_num_threads()
    kernel(system.vectors, weights, bench.LR, 101, 5)
    assert torch.get_num_threads() == threads
    found = sphere.simulate(system, bench.LR, 101, start=sphere.PAPER_START, replicas=9, seed=5)
    # Numba may fuse products and sums: 101 roundings.
    np.testing.assert_allclose(weights, found["final_weights"].values[0], atol=1e-13)
