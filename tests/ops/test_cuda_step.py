"""CUDA's steps: what test_projected_sgd_step.py does not ask of all kernels."""

import math

import backends
import emulation
import pytest
import reference
import torch
from reference import normal, sphere_point

import pythermo as pt
from pythermo.ops._backends import KERNELS

STEPS = {
    "projected_sgd_step": pt.ops.projected_sgd_step_,
    "exponential_sgd_step": pt.ops.exponential_sgd_step_,
}
EXACT = {
    "projected_sgd_step": reference.projected_step,
    "exponential_sgd_step": reference.exponential_step,
}
NAN, INF = math.nan, math.inf
each_step = pytest.mark.parametrize("name", STEPS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.mark.parametrize("bad", [NAN, INF])
@each_dtype
@pytest.mark.usefixtures("cuda")
def test_what_is_not_finite_is_refused_with_the_weights_untouched(bad, dtype):
    for place in (0, 700, 1999):
        weights, grad = sphere_point(2000, dtype=dtype), normal(2000, seed=1, dtype=dtype)
        grad[place] = bad
        before = weights.clone()
        for name in STEPS:
            with pytest.raises(ValueError, match="must be finite"):
                STEPS[name](weights, grad, 0.1)
            assert torch.equal(weights, before)
        grad[place], weights[place] = 0.0, bad
        with pytest.raises(ValueError, match="must be finite"):
            pt.ops.projected_sgd_step_(weights, grad, 0.1)


@each_step
@each_dtype
@pytest.mark.parametrize("size", [1000, 24408, 300001])
def test_the_same_bits_for_any_block_size(emulated, name, dtype, size):
    start, grad, results = sphere_point(size, dtype=dtype), normal(size, seed=1, dtype=dtype), []
    for emulated.step_threads in (32, 64, 160, 512):
        for schedule in backends.SCHEDULES.values():
            emulation.module().set_schedule(schedule)
            results.append(STEPS[name](start.clone(), grad, 0.01))
    assert all(torch.equal(results[0], other) for other in results[1:])


@each_step
@each_dtype
@pytest.mark.parametrize("scale", [1.0, 1e-15])  # of which the float32 sums are made again, in float64
def test_vectors_that_shared_memory_does_not_hold(emulated, name, dtype, scale):
    """The emulated device has two blocks, each with shared memory for at most six items of 16 KB."""
    of_item = 2048 if dtype is torch.float32 else 1024
    for items in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 41):
        for offset in (0, 1):
            size = items * of_item - 5
            # Of a view at an odd offset no pack is aligned.
            weights = torch.empty(size + offset, dtype=dtype)[offset:]
            weights.copy_(scale * sphere_point(size, dtype=dtype))
            grad = scale / size**0.5 * normal(size, seed=1, dtype=dtype)
            lr, radius = 0.25, 2.0 * scale
            expected = EXACT[name](weights, grad, lr, radius)
            STEPS[name](weights, grad, lr, radius)
            tolerance = 3e-7 if dtype is torch.float32 else 1e-14
            assert torch.linalg.vector_norm(weights.double() - expected) <= tolerance * radius


def test_a_learning_rate_on_the_device(emulated):
    """The emulation's device is the CPU, where a tensor is read at once: the kernel is called directly."""
    step, start, grad = KERNELS["cpu", "projected_sgd_step"], sphere_point(2000), normal(2000, seed=1)
    for lr in (0.01, 0.3):
        moved, expected = start.clone(), start.clone()
        step([moved], [grad], 0.0, 1.0, torch.tensor([lr], dtype=torch.float64))
        step([expected], [grad], lr, 1.0, None)
        assert torch.equal(moved, expected)
    before = moved.clone()
    for lr in (-1.0, -1e-60, NAN, INF, 1e60):
        with pytest.raises(ValueError, match="lr: must be finite"):
            step([moved], [grad], 0.0, 1.0, torch.tensor([lr], dtype=torch.float64))
        assert torch.equal(moved, before)
    step([moved], [grad], 0.0, 1.0, torch.tensor([0.0], dtype=torch.float64))
    assert torch.equal(moved, before)
    by_tensor = pt.ops.projected_sgd_step_(start.clone(), grad, torch.tensor(0.3))
    assert torch.equal(by_tensor, pt.ops.projected_sgd_step_(start.clone(), grad, float(torch.tensor(0.3))))


def test_arguments_on_different_devices():
    meta = torch.ones(3, device="meta")
    for step in STEPS.values():
        with pytest.raises(ValueError, match="grad: must lie on the device of weights, cpu, not meta"):
            step(torch.ones(3), meta, 0.1)
