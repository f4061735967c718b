import backends
import emulation
import numpy as np
import pytest
import torch
from reference import EDGE_SIZES, normal

from pythermo import ops

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.mark.usefixtures("kernels")
@DTYPES
@pytest.mark.parametrize("size", EDGE_SIZES)
def test_sums_are_those_of_a_plain_loop(dtype, size):
    grad, center = normal(size, seed=1, dtype=dtype), normal(size, seed=2, dtype=torch.float64)
    total = normal(size, seed=3, dtype=torch.float64)
    wide, apart = grad.numpy().astype(np.longdouble), grad.numpy().astype(np.longdouble) - center.numpy()
    expected_total = total + grad
    # Sums of float64 squares of one sign, in many lanes.
    np.testing.assert_allclose(ops.gradient_sums_(grad), [wide @ wide] * 2, rtol=1e-13)
    found = ops.gradient_sums_(grad, center, total)
    np.testing.assert_allclose(found, [wide @ wide, apart @ apart], rtol=1e-13)
    assert torch.equal(total, expected_total)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_views_that_are_not_aligned(offset):
    grad = normal(1000)
    whole = torch.cat([torch.full((offset,), torch.nan), grad, torch.full((3,), torch.nan)])
    np.testing.assert_array_equal(ops.gradient_sums_(whole[offset:-3]), ops.gradient_sums_(grad))


@pytest.mark.usefixtures("kernels")
def test_what_is_not_finite_shows():
    grad = normal(1000)
    grad[999] = torch.inf
    assert not ops.gradient_sums_(grad).isfinite().any()


@DTYPES
def test_the_same_bits_for_any_block_size_and_thread_count(emulated, monkeypatch, dtype):
    grad, center = normal(300_001, dtype=dtype), normal(300_001, seed=1, dtype=torch.float64)
    results = []
    for emulated.threads in (32, 64, 160, 256):
        for schedule in backends.SCHEDULES.values():
            emulation.module().set_schedule(schedule)
            results.append(ops.gradient_sums_(grad, center))
    assert all(torch.equal(results[0], other) for other in results[1:])
    on_cpu = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with backends.cpu(monkeypatch):
                on_cpu.append(ops.gradient_sums_(grad, center))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(on_cpu[0], other) for other in on_cpu[1:])
    torch.testing.assert_close(on_cpu[0], results[0], rtol=1e-13, atol=0)


def test_wrong_arguments_are_named():
    grad, wide = torch.ones(4), torch.ones(4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"grad: must have the shape \[D\]"):
        ops.gradient_sums_(torch.ones(2, 2))
    with pytest.raises(TypeError, match="grad: the dtype must be float32 or float64"):
        ops.gradient_sums_(grad.half())
    with pytest.raises(TypeError, match="center: the dtype must be float64"):
        ops.gradient_sums_(grad, grad)
    with pytest.raises(ValueError, match=r"total: must have the shape \[4\]"):
        ops.gradient_sums_(grad, wide, wide[:3])


def test_registered_operator():
    operator = torch.ops.pythermo.gradient_sums_.default
    wide = torch.ones(33, dtype=torch.float64)
    torch.library.opcheck(operator, (normal(33), wide, wide.clone()))
