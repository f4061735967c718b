"""The simulator's CUDA kernels, emulated, against those of the CPU: to the bit where a thread runs a chain."""

import backends
import numpy as np
import pytest
import torch
import xarray as xr

from pythermo import sphere
from pythermo.ops._backends import KERNELS
from pythermo.ops.sphere import SphereSettings

KINDS = [
    {"retraction": "projection"},
    {"retraction": "exponential"},
    {"protocol": "fixed-lr", "weight_decay": 0.1},
    {"protocol": "fixed-elr", "weight_decay": 0.1},
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: next(iter(kind.values())))
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
# All that a simulation can be asked for, with steps to measure that lie close together and far apart.
ASKED = {"measure_at": [0, 1, 9, 40], "window": 5, "stride": 3, "seed": 5}


def quadratics(samples: int, dim: int) -> sphere.Quadratics:
    rows = np.random.default_rng(dim).normal(size=(samples, dim))
    return sphere.Quadratics(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def emulated(run, monkeypatch, schedule="shuffled", **launch):
    """Return run() on the emulated kernels, launched so."""
    with monkeypatch.context() as patch:
        backends.emulate(patch, schedule, **launch)
        return run()


@each_dtype
@each_kind
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_a_thread_per_chain_has_the_bits_of_the_cpu(dim, kind, dtype, monkeypatch):
    batches = [
        (sphere.IsotropicNoise(dim, 0.6), {}),
        (quadratics(5, dim), {"batch_size": 3}),
        (quadratics(11, dim), {"batch_size": 1}),
        (quadratics(7, dim), {"batch_size": 3, "sampling": "epochs"}),
        (quadratics(4, dim), {"batch_size": 4, "sampling": "epochs"}),
    ]
    for system, batch in batches:

        def run(system=system, batch=batch):
            return sphere.simulate(
                system, [0.01, 0.2], 40, replicas=17, dtype=dtype, **batch, **kind, **ASKED
            )

        xr.testing.assert_identical(run(), emulated(run, monkeypatch))


# 20 steps that do not amplify roundings: those of a sum of D terms, a hundredfold for the norms and ratios.
WITHIN = {"float32": 1e-4, "float64": 1e-12}


@each_dtype
@each_kind
@pytest.mark.parametrize("dim", [5, 31, 32, 33, 100, 1003])
def test_a_warp_per_chain_is_the_cpu_but_for_rounding(dim, kind, dtype, monkeypatch):
    for system, batch in (
        (sphere.IsotropicNoise(dim, 0.6 / np.sqrt(dim)), {}),
        (quadratics(3, dim), {"batch_size": 2}),
        (quadratics(4, dim), {"batch_size": 3, "sampling": "epochs"}),
    ):

        def run(system=system, batch=batch):
            return sphere.simulate(
                system, 0.1, 20, replicas=2, measure_at=[0, 20], window=3, dtype=dtype, **batch, **kind
            )

        expected, found = run(), emulated(run, monkeypatch)
        for name in expected.data_vars:
            scale = np.abs(expected[name].values).max()
            np.testing.assert_allclose(found[name], expected[name], atol=WITHIN[dtype] * scale, err_msg=name)


@pytest.mark.parametrize("chains", [1, 31, 32, 33, 129])
@pytest.mark.parametrize("dim", [3, 6])
def test_the_same_bits_for_any_launch(dim, chains, monkeypatch):
    def run():
        return sphere.simulate(
            quadratics(5, dim),
            0.1,
            7,
            replicas=chains,
            batch_size=2,
            sampling="epochs",
            window=2,
            measure_at=[3],
        )

    first = emulated(run, monkeypatch, "forward")
    launches = [
        ("forward", {"sphere_threads": 32}),
        ("backward", {"sphere_threads": 64, "sphere_work": 1}),
        ("shuffled", {"sphere_work": 7}),
    ]
    for schedule, launch in launches:
        xr.testing.assert_identical(first, emulated(run, monkeypatch, schedule, **launch))


def test_vectors_in_the_workspace_as_in_shared_memory(monkeypatch):
    system = quadratics(3, 1003)

    def run():
        return sphere.simulate(system, 0.1, 4, replicas=3, retraction="exponential")

    settings = SphereSettings(
        dim=1003, sigma=0.0, batch_size=1, epochs=False, seed=0, protocol="sphere", retraction="exponential",
        weight_decay=0.0, first_step=0, last_step=4, window=0, stride=1,
    )  # fmt: skip

    def size():
        return KERNELS["cpu", "sphere_workspace_size"](settings, 3, 3, 8)

    in_shared = emulated(size, monkeypatch, sphere_threads=32)
    assert emulated(size, monkeypatch, sphere_threads=128) == in_shared + 3 * 3 * 1003
    one, other = (emulated(run, monkeypatch, sphere_threads=threads) for threads in (32, 128))
    xr.testing.assert_identical(one, other)


@pytest.mark.parametrize("dim", [3, 6])
@pytest.mark.parametrize("sampling", ["iid", "epochs"])
def test_a_continued_simulation_equals_an_uninterrupted_one(sampling, dim, monkeypatch):
    settings = {"replicas": 3, "batch_size": 3, "sampling": sampling}

    def whole():
        return sphere.simulate(quadratics(7, dim), 0.1, 29, window=4, measure_at=[12], **settings)

    def in_parts():
        begun = sphere.simulate(quadratics(7, dim), 0.1, 11, **settings)
        return sphere.resume(begun, 18, window=4, measure_at=[12])

    xr.testing.assert_identical(emulated(whole, monkeypatch), emulated(in_parts, monkeypatch))


@pytest.mark.parametrize("threads", [0, 48, 512])
def test_other_blocks_are_refused(threads, monkeypatch):
    with pytest.raises(ValueError, match="threads: must be a multiple of 32 up to 256"):
        emulated(lambda: sphere.simulate(quadratics(3, 3), 0.1, 2), monkeypatch, sphere_threads=threads)


@pytest.mark.cuda
@each_dtype
@pytest.mark.parametrize("dim", [3, 40])
def test_a_device_is_the_cpu(dim, dtype):
    for system in (quadratics(5, dim), sphere.IsotropicNoise(dim, 0.1)):
        expected, found = (
            sphere.simulate(system, [0.01, 0.1], 40, replicas=65, dtype=dtype, device=device, **ASKED)
            for device in ("cpu", "cuda")
        )
        if dim <= 4:
            xr.testing.assert_identical(expected, found)
        np.testing.assert_allclose(found["final_weights"], expected["final_weights"], atol=WITHIN[dtype])
        further = sphere.resume(found, 5, device=f"cuda:{torch.cuda.current_device()}")
        np.testing.assert_allclose(
            further["final_weights"], sphere.resume(expected, 5)["final_weights"], atol=WITHIN[dtype]
        )
