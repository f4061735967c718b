"""Normalization, pooling and ReLU in one kernel: against extended precision, and torch's gradients."""

import emulation
import numpy as np
import pytest
import reference
import torch
from backends import SCHEDULES, on_every_instruction_set_and_thread_count
from hypothesis import given
from hypothesis import strategies as st
from reference import normal
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional

from pythermo import ops
from pythermo.ops.batch_norm_relu import _batch_norm_relu, _batch_norm_relu_backward

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
POOLS = pytest.mark.parametrize("pool", [1, 2])
EPS, TINY = 1e-12, 1e-30  # the latter lies below the rounding of any variance here


def by_torch(x, pool=1, eps=EPS):
    """The published order of torch's own operations."""
    return functional.max_pool2d(
        functional.relu(functional.batch_norm(x, None, None, training=True, eps=eps)), pool
    )


def distinct(*shape, dtype=torch.float64, seed=0):
    """Normal deviates in the kernels' layout."""
    return normal(*shape, dtype=dtype, seed=seed).to(memory_format=torch.channels_last)


@DTYPES
@POOLS
@pytest.mark.sampled(5)
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64])
@pytest.mark.parametrize(("images", "height", "width"), [(1, 2, 3), (3, 5, 4), (5, 7, 9), (2, 16, 16)])
def test_outputs_and_gradients(dtype, pool, channels, images, height, width):
    x = (3 * distinct(images, channels, height, width, dtype=dtype) + 1).requires_grad_()
    found, expected = ops.batch_norm_relu(x, pool, EPS), reference.batch_norm_relu(x, pool, EPS)
    # A few roundings of values of up to 5, and in float64 of sums of some hundred.
    bound = 2e-6 if dtype is torch.float32 else 2e-14
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)
    weights = normal(*found.shape, seed=1, dtype=dtype)
    (grad,) = torch.autograd.grad(found, x, weights)
    wide = x.detach().double().requires_grad_()
    (expected_grad,) = torch.autograd.grad(by_torch(wide, pool), wide, weights.double())
    # Six pixels may have a small variance, by whose root gradients are divided.
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e3 * bound, atol=bound)


@pytest.mark.usefixtures("kernels")
@DTYPES
@POOLS
@pytest.mark.parametrize("offset", [1.0, 1e3, 1e5])
def test_a_mean_far_beyond_the_spread_costs_only_what_the_elements_have_lost(dtype, pool, offset):
    x = (offset + distinct(8, 5, 6, 6)).to(dtype)
    found, expected = ops.batch_norm_relu(x, pool, EPS), reference.batch_norm_relu(x, pool, EPS)
    # The mean is rounded to the dtype, as the elements are; values of up to 5 come from sums of 288.
    bound = 8 * (offset + 5) * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)


@given(
    images=st.integers(1, 5),
    channels=st.integers(1, 40),
    height=st.integers(2, 11),
    width=st.integers(2, 11),
    pool=st.sampled_from([1, 2]),
    scale=st.sampled_from([1e-3, 1.0, 2.0**20]),
    seed=st.integers(0, 100),
)
def test_properties(images, channels, height, width, pool, scale, seed):
    x = distinct(images, channels, height, width, seed=seed)
    found = ops.batch_norm_relu(x, pool, TINY)
    assert found.shape == (images, channels, height // pool, width // pool)
    assert float(found.min()) >= 0.0
    # Beside 1, values of 1e-3 keep 1e-13 of themselves, and where pixels hardly differ less.
    torch.testing.assert_close(ops.batch_norm_relu(scale * x + 1.0, pool, TINY), found, rtol=1e-9, atol=1e-9)
    swapped = ops.batch_norm_relu(x.flip(1), pool, TINY).flip(1)
    assert torch.equal(swapped, found)  # each channel for itself


@pytest.mark.usefixtures("kernels")
@POOLS
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.contiguous(),
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
        lambda x: functional.pad(x, (2, 1, 3, 1))[:, :, 3:-1, 2:-1],
        lambda x: torch.cat([x, x])[: len(x)],
    ],
)
def test_other_layouts_give_the_same_bits(pool, view):
    x = distinct(3, 6, 7, 8)
    weights = normal(3, 6, 7 // pool, 8 // pool, seed=1, dtype=torch.float64)
    results = []
    for images in (x, view(x)):
        images = images.detach().requires_grad_()
        output = ops.batch_norm_relu(images, pool)
        results.append((output, *torch.autograd.grad(output, images, weights)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@DTYPES
@POOLS
@pytest.mark.parametrize("shape", [(3, 8, 30, 30), (2, 300, 6, 5), (70, 6, 16, 16), (1, 257, 4, 4)])
@pytest.mark.usefixtures("emulated")
def test_cuda_adds_up_many_pixels_and_channels(on_cpu, dtype, pool, shape):
    """Several parts of pixels, several slabs of channels; images upon each other and, of odd height, not."""
    x = (distinct(*shape, dtype=dtype) + 2).requires_grad_()
    weights = normal(shape[0], shape[1], shape[2] // pool, shape[3] // pool, seed=1, dtype=dtype)

    def compute():
        output = ops.batch_norm_relu(x, pool)
        return output.detach(), torch.autograd.grad(output, x, weights)[0]

    bound = 1e-5 if dtype is torch.float32 else 1e-13  # some roundings of values of up to 10
    found = compute()
    for one, other in zip(found, on_cpu(compute), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=bound)
    for schedule in ("backward", "shuffled"):
        emulation.module().set_schedule(SCHEDULES[schedule])
        assert all(map(torch.equal, compute(), found))


@DTYPES
@POOLS
def test_the_same_bits_on_every_instruction_set_and_thread_count(dtype, pool):
    x = distinct(7, 29, 9, 10, dtype=dtype).requires_grad_()
    weights = normal(7, 29, 9 // pool, 10 // pool, seed=1, dtype=dtype)

    def compute():
        output = ops.batch_norm_relu(x, pool)
        return torch.cat([output.flatten(), torch.autograd.grad(output, x, weights)[0].flatten()])

    results = on_every_instruction_set_and_thread_count(compute)
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.usefixtures("kernels")
@POOLS
@pytest.mark.parametrize("worst", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows_in_its_whole_channel(pool, worst):
    x = distinct(2, 5, 4, 4)
    x[1, 3, 2, 1] = worst
    x.requires_grad_()
    found = ops.batch_norm_relu(x, pool)
    assert found[:, 3].isnan().all()
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad[:, 3].isnan().all()
    others = [0, 1, 2, 4]
    assert found[:, others].isfinite().all()
    assert grad[:, others].isfinite().all()


def test_arrays_give_arrays_and_outputs_may_be_overwritten():
    x = distinct(2, 3, 4, 4)
    found = ops.batch_norm_relu(x, 2)
    array = ops.batch_norm_relu(x.numpy(), 2)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, found.numpy())
    x.requires_grad_()
    torch.testing.assert_close(ops.batch_norm_relu(x, 2).mul_(2.0).detach(), 2.0 * found)


def test_the_operators_themselves_refuse_images_without_pixels():
    for shape in ((0, 3, 4, 4), (1, 3, 0, 4), (2, 3, 0, 4)):
        with pytest.raises(ValueError, match="x: must have pixels"):
            _batch_norm_relu(torch.empty(shape), 1, EPS)


@pytest.mark.usefixtures("kernels")
def test_the_first_of_equal_pixels_has_the_gradient():
    x = torch.tensor([[0.0, 2.0, 1.0, 1.0], [2.0, 2.0, 0.0, 1.0]], dtype=torch.float64)[None, None]
    x.requires_grad_()
    (grad,) = torch.autograd.grad(ops.batch_norm_relu(x, 2), x, torch.tensor([[[[3.0, 1.0]]]]).double())
    (expected,) = torch.autograd.grad(by_torch(x, 2), x, torch.tensor([[[[3.0, 1.0]]]]).double())
    torch.testing.assert_close(grad, expected)
    assert grad[0, 0, 0, 1] != grad[0, 0, 1, 0]


@pytest.mark.usefixtures("kernels")
@POOLS
def test_a_channel_of_equal_pixels_is_zero_and_has_no_gradient(pool):
    x = torch.full((2, 3, 4, 4), 0.3, requires_grad=True)
    found = ops.batch_norm_relu(x, pool)
    assert not found.any()
    assert not torch.autograd.grad(found.sum(), x)[0].any()


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")  # of torch.func itself
@POOLS
def test_derivatives_of_any_kind(pool):
    x, along = distinct(3, 4, 5, 6).requires_grad_(), normal(3, 4, 5, 6, seed=1, dtype=torch.float64)

    def ours(x):
        return ops.batch_norm_relu(x, pool).pow(3).sum()

    def theirs(x):
        return by_torch(x, pool).pow(3).sum()

    assert gradcheck(lambda x: ops.batch_norm_relu(x, pool), x, check_forward_ad=True)
    assert gradgradcheck(lambda x: ops.batch_norm_relu(x, pool), x)
    batch = torch.stack([x.detach(), along])
    for derivative in (
        lambda f: torch.func.grad(f)(along),
        lambda f: torch.func.jvp(f, (x.detach(),), (along,))[1],
        lambda f: torch.func.vmap(f)(batch),
        lambda f: torch.func.jacfwd(f)(along[:, :1]),
        lambda f: torch.func.vmap(torch.func.grad(f), in_dims=1)(batch.transpose(0, 1)),
        lambda f: torch.func.hessian(f)(along[:, :1]),
        lambda f: torch.autograd.functional.hvp(f, x.detach(), along)[1],
    ):
        torch.testing.assert_close(derivative(ours), derivative(theirs))
    with forward_ad.dual_level():
        tangents = [
            forward_ad.unpack_dual(f(forward_ad.make_dual(x.detach(), along))).tangent for f in (ours, theirs)
        ]
    torch.testing.assert_close(*tangents)


@DTYPES
@POOLS
def test_registered_with_torch(dtype, pool):
    x = distinct(2, 3, 5, 4, dtype=dtype)
    torch.library.opcheck(_batch_norm_relu, (x, pool, EPS))
    output, statistics = _batch_norm_relu(x, pool, EPS)
    grad = normal(*output.shape, dtype=dtype)
    torch.library.opcheck(_batch_norm_relu_backward, (x, pool, output, statistics, grad))
    compiled = torch.compile(lambda x: ops.batch_norm_relu(x, pool), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), ops.batch_norm_relu(x, pool))


@POOLS
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        pytest.param("cuda", torch.float32, marks=pytest.mark.cuda),
        pytest.param("cuda", torch.float64, marks=pytest.mark.cuda),
        ("cpu", torch.bfloat16),
    ],
)
def test_other_devices_and_dtypes(pool, device, dtype):
    x = distinct(4, 6, 7, 5)
    found = ops.batch_norm_relu(x.to(device, dtype), pool)
    assert (found.device.type, found.dtype) == (device, dtype)
    tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]  # of values up to 3
    torch.testing.assert_close(found.cpu().double(), by_torch(x, pool), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(2, 3, 4),), ValueError, r"x: must be images .* not \[2, 3, 4\]"),
        ((torch.ones(2, 0, 4, 4),), ValueError, "with C >= 1"),
        ((torch.ones(2, 1, 4, 1), 2), ValueError, r"H, W >= 2, not \[2, 1, 4, 1\]"),
        ((torch.ones(0, 1, 4, 4),), ValueError, "x: must have at least two pixels in each channel"),
        ((torch.ones(1, 5, 1, 1),), ValueError, "x: must have at least two pixels in each channel"),
        ((torch.ones(2, 3, 4, 4, dtype=torch.int64),), TypeError, "x: the dtype must be a floating one"),
        ((torch.ones(2, 3, 4, 4), 3), ValueError, "pool: must be 1 or 2, not 3"),
        ((torch.ones(2, 3, 4, 4), 2.0), ValueError, "pool: must be 1 or 2, not 2.0"),
        ((torch.ones(2, 3, 4, 4), 1, 0.0), ValueError, "eps: must be positive and finite, not 0.0"),
        ((torch.ones(2, 3, 4, 4), 1, torch.nan), ValueError, "eps: must be positive and finite, not nan"),
        ((torch.ones(2, 3, 4, 4), 1, None), TypeError, "eps: must be a number, not None"),
        (([[[[1.0, 2.0]]]],), TypeError, "x: must be a torch tensor or a numpy array, not list"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ops.batch_norm_relu(*arguments)
