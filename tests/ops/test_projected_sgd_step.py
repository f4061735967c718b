import numpy as np
import pytest
import torch
from backends import on_every_instruction_set_and_thread_count
from hypothesis import given
from hypothesis import strategies as st
from reference import EDGE_SIZES, exponential_step, normal, projected_step, sphere_point

import pythermo as pt

STEPS = {
    "projection": (pt.ops.projected_sgd_step_, projected_step),
    "exponential": (pt.ops.exponential_sgd_step_, exponential_step),
}
OPERATORS = {
    "projection": torch.ops.pythermo.projected_sgd_step_,
    "exponential": torch.ops.pythermo.exponential_sgd_step_,
}
DTYPES = [torch.float32, torch.float64]
each_step = pytest.mark.parametrize("name", STEPS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
on_all_kernels = pytest.mark.usefixtures("kernels")  # the CPU's, and CUDA's emulated or on a device


def assert_close(weights: torch.Tensor, expected: torch.Tensor) -> None:
    # Three roundings per element and one of the scale, relative to the largest weight.
    allowed = 4 * torch.finfo(weights.dtype).eps * float(expected.abs().max())
    assert float((weights.double() - expected).abs().max()) <= allowed


@on_all_kernels
@each_dtype
@pytest.mark.parametrize(
    ("name", "size"),
    # The sphere of R^1 has no tangent.
    [(name, size) for name in STEPS for size in EDGE_SIZES if (name, size) != ("exponential", 1)],
)
def test_agrees_with_the_plain_step(name, dtype, size):
    step, plain = STEPS[name]
    weights, grad = sphere_point(size, 1, dtype), normal(size, seed=2, dtype=dtype)
    grad /= grad.norm() / 3  # an angle of about one: many turns would amplify the rounding of the angle
    expected = plain(weights, grad, 0.25, 1.0)  # 0.25 is exact in float32
    untouched = grad.clone()
    assert step(weights, grad, 0.25) is weights
    assert_close(weights, expected)
    assert torch.equal(grad, untouched)


@on_all_kernels
def test_agrees_with_torch_sgd_and_a_division():
    parameter = torch.nn.Parameter(sphere_point(5000))
    parameter.grad = normal(5000, seed=3)
    weights = parameter.detach().clone()
    torch.optim.SGD([parameter], lr=0.125).step()
    with torch.no_grad():
        parameter /= parameter.norm()
    pt.ops.projected_sgd_step_(weights, parameter.grad, 0.125)
    # torch's float32 norm is itself off by some 1e-7.
    torch.testing.assert_close(weights, parameter.detach(), rtol=5e-7, atol=1e-9)


@on_all_kernels
@each_step
@each_dtype
def test_lands_on_the_sphere(name, dtype):
    weights = sphere_point(24408, dtype=dtype)
    STEPS[name][0](weights, normal(24408, seed=1, dtype=dtype), 0.01, 2.5)
    # A scale rounded to the dtype, and sums in short float32 runs.
    assert float(weights.double().norm()) == pytest.approx(2.5, rel=4 * torch.finfo(dtype).eps)


@on_all_kernels
def test_the_two_retractions_agree_to_second_order():
    # tan(a) - a = a^3 / 3 for the angle a of a step.
    start, grad = sphere_point(100, dtype=torch.float64), normal(100, seed=1, dtype=torch.float64)
    grad -= (grad @ start) * start
    gaps = []
    for lr in (1e-2, 1e-3):
        projected = pt.ops.projected_sgd_step_(start.clone(), grad, lr)
        exponential = pt.ops.exponential_sgd_step_(start.clone(), grad, lr)
        gaps.append(float((projected - exponential).norm()))
        assert gaps[-1] == pytest.approx((lr * float(grad.norm())) ** 3 / 3, rel=0.05)
    assert gaps[1] < gaps[0] / 900


@on_all_kernels
def test_exponential_goes_half_way_round():
    weights = np.array([1.0, 0.0, 0.0])
    pt.ops.exponential_sgd_step_(weights, np.array([7.0, 0.0, -2.0]), np.pi / 4)
    np.testing.assert_allclose(weights, [0.0, 0.0, 1.0], atol=1e-15)


@on_all_kernels
@each_step
@each_dtype
@given(
    size=st.integers(2, 300),
    exponent=st.integers(-30, 30),
    lr=st.sampled_from([2.0**-20, 2.0**-7, 0.5, 4.0]),
    radius=st.sampled_from([0.5, 1.0, 8.0]),
    seed=st.integers(0, 10**6),
)
def test_any_scale_of_the_gradient(name, dtype, size, exponent, lr, radius, seed):
    step, plain = STEPS[name]
    weights = radius * sphere_point(size, seed, dtype)
    grad = normal(size, seed=seed + 1, dtype=dtype) * 2.0**exponent
    if name == "exponential":
        # An angle of many turns amplifies the rounding of its own length.
        grad *= min(1.0, radius / (lr * float(grad.double().norm())))
    expected = plain(weights, grad, lr, radius)
    step(weights, grad, lr, radius)
    assert_close(weights, expected)


@on_all_kernels
@each_step
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_squares_beyond_float32(name, scale):
    step, plain = STEPS[name]
    weights = scale * sphere_point(1000)
    grad = scale * normal(1000, seed=1)
    expected = plain(weights, grad, 0.5, scale)
    step(weights, grad, 0.5, scale)
    assert_close(weights, expected)


@on_all_kernels
@each_step
@each_dtype
def test_a_zero_gradient_changes_nothing(name, dtype):
    weights = 3.0 * sphere_point(1000, dtype=dtype)
    before = weights.clone()
    STEPS[name][0](weights, torch.zeros(1000, dtype=dtype).neg_(), 0.1)
    assert torch.equal(weights, before)


@on_all_kernels
@each_step
@each_dtype
def test_a_tiny_gradient_is_not_taken_for_zero(name, dtype):
    weights = 2.0 * sphere_point(1000, dtype=dtype)
    grad = torch.zeros(1000, dtype=dtype)
    grad[999] = torch.finfo(dtype).tiny
    STEPS[name][0](weights, grad, 0.1)
    assert float(weights.double().norm()) == pytest.approx(1.0, rel=1e-6)


@each_step
@each_dtype
def test_the_same_bits_for_any_thread_count_and_instruction_set(name, dtype):
    start, grad = sphere_point(300001, dtype=dtype), normal(300001, seed=1, dtype=dtype)
    first, *others = on_every_instruction_set_and_thread_count(
        lambda: STEPS[name][0](start.clone(), grad, 0.01)
    )
    assert all(torch.equal(first, other) for other in others)


@on_all_kernels
@each_step
def test_numpy_arrays_share_their_memory(name):
    weights = sphere_point(50).numpy()
    same = STEPS[name][0](weights, normal(50, seed=1).numpy(), 0.1)
    assert same is weights
    assert np.linalg.norm(weights - sphere_point(50).numpy()) > 0.01


NAN, INF = float("nan"), float("inf")
BAD_VALUES = [
    ([1.0, 0.0, 0.0], [0.0, NAN, 0.0], "grad: element 1 is nan"),
    ([1.0, 0.0, 0.0], [0.0, 0.0, INF], "grad: element 2 is inf"),
    ([1.0, INF, 0.0], [0.0, 0.0, 1.0], "weights: element 1 is inf"),
    ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], "weights: all elements are zero"),
    ([], [], "weights: all elements are zero"),
]


@each_step
@each_dtype
@pytest.mark.parametrize(("weights", "grad", "message"), BAD_VALUES)
def test_bad_values_are_refused_with_the_weights_untouched(name, dtype, weights, grad, message):
    w = torch.tensor(weights, dtype=dtype)
    before = w.clone()
    with pytest.raises(ValueError, match=message):
        STEPS[name][0](w, torch.tensor(grad, dtype=dtype), 0.1)
    assert torch.equal(w, before)


@on_all_kernels
def test_a_step_to_the_center_is_refused():
    weights = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="grad: the step ends at the origin"):
        pt.ops.projected_sgd_step_(weights, torch.tensor([2.0, 4.0]), 0.5)
    assert weights.tolist() == [1.0, 2.0]


@on_all_kernels
@each_step
def test_lr_must_not_be_negative_and_the_radius_positive(name):
    weights, grad = sphere_point(5), normal(5)
    before = weights.clone()
    for value in (-1.0, -1e-60, NAN, INF, 1e60):
        with pytest.raises(ValueError, match="lr: must be finite"):
            STEPS[name][0](weights, grad, value)
    for value in (0.0, -1.0, NAN, INF, 1e-60):
        with pytest.raises(ValueError, match="radius: must be positive"):
            STEPS[name][0](weights, grad, 0.1, value)
    assert torch.equal(weights, before)


@on_all_kernels
@each_step
def test_a_learning_rate_of_zero_changes_nothing(name):
    weights = 3.0 * sphere_point(5)
    before = weights.clone()
    for lr in (0.0, 1e-60):  # zero in float32
        STEPS[name][0](weights, normal(5), lr)
        assert torch.equal(weights, before)


@each_step
@pytest.mark.parametrize(
    ("weights", "grad", "error", "message"),
    [
        (torch.ones(3), torch.ones(4), ValueError, "same shape"),
        (torch.ones(2, 2), torch.ones(2, 2), ValueError, "same shape"),
        (torch.ones(3), torch.ones(3).double(), TypeError, "grad: the dtype"),
        (torch.ones(3, dtype=torch.float16), torch.ones(3, dtype=torch.float16), TypeError, "float16"),
        (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64), TypeError, "int64"),
        (torch.ones(3), torch.ones(3).to_sparse(), TypeError, "sparse"),
        (torch.ones(6)[::2], torch.ones(3), ValueError, "contiguous"),
        (torch.ones(3), torch.ones(6)[::2], ValueError, "contiguous"),
        ([1.0], torch.ones(1), TypeError, "weights: must be a torch tensor or a numpy array, not list"),
    ],
)
def test_wrong_arguments_are_named(name, weights, grad, error, message):
    with pytest.raises(error, match=message):
        STEPS[name][0](weights, grad, 0.1)


def test_shared_memory_is_refused():
    both = torch.ones(10)
    with pytest.raises(ValueError, match="grad: shares memory with weights"):
        pt.ops.projected_sgd_step_(both[:6], both[4:], 0.1)


@each_step
def test_there_is_no_derivative(name):
    weights = sphere_point(5).requires_grad_()
    with pytest.raises(RuntimeError, match="no derivative"):
        STEPS[name][0](weights, normal(5), 0.1)
    with pytest.raises(RuntimeError, match="no derivative"):
        OPERATORS[name](weights, normal(5), 0.1, 1.0)
    with torch.no_grad():
        STEPS[name][0](weights, normal(5), 0.1)


@each_step
def test_autograd_knows_that_the_weights_changed(name):
    weights = sphere_point(5).requires_grad_()
    for step in (STEPS[name][0], OPERATORS[name]):
        loss = (weights**3).sum()
        with torch.no_grad():
            step(weights, normal(5), 0.1, 1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@each_step
def test_read_only_arrays_are_refused(name):
    weights = sphere_point(5).numpy()
    weights.flags.writeable = False
    with pytest.raises(ValueError, match="weights: must be writeable"):
        STEPS[name][0](weights, normal(5).numpy(), 0.1)
    grad = normal(5).numpy()
    grad.flags.writeable = False
    STEPS[name][0](sphere_point(5).numpy(), grad, 0.1)


@on_all_kernels
def test_exponential_step_with_a_mostly_radial_gradient():
    """|t|^2 = |g|^2 - <w, g>^2 / |w|^2 would lose its digits in float32 sums."""
    weights = sphere_point(1000)
    across = tangent(weights, 0.1)
    for radial, digits_lost in ((1.0, 10.0), (10.0, 100.0), (100.0, 1000.0)):
        moved, grad = weights.clone(), radial * weights + across
        expected = exponential_step(weights, grad, 8.0, 1.0)
        pt.ops.exponential_sgd_step_(moved, grad, 8.0)
        allowed = 4 * digits_lost * torch.finfo(torch.float32).eps * float(expected.abs().max())
        assert float((moved.double() - expected).abs().max()) <= allowed


@each_step
def test_registered_operator(name):
    arguments = (sphere_point(33), normal(33, seed=1), 0.1, 1.0)
    torch.library.opcheck(OPERATORS[name].default, arguments)
    direct = STEPS[name][0](arguments[0].clone(), *arguments[1:])
    dispatched = arguments[0].clone()
    OPERATORS[name](dispatched, *arguments[1:])
    assert torch.equal(direct, dispatched)


# From this size on float32 steps are made by a predicted norm: csrc/cpu/projected_sgd_step.cpp.
BEYOND_CACHES = 2**22 + 5


def tangent(weights: torch.Tensor, length: float) -> torch.Tensor:
    grad = normal(len(weights), seed=1)
    grad -= float(grad.double() @ weights.double()) / float(weights.double().square().sum()) * weights
    return grad * (length / float(grad.norm()))


@pytest.mark.parametrize(
    ("start", "radius", "length", "is_tangent"),
    [
        (1.0, 1.0, 0.5, True),  # predicted
        (3.0, 3.0, 40.0, True),
        (1.0, 1.0, 0.5, False),  # corrected: the gradient is not tangent
        (7.0, 1.0, 0.5, True),  # corrected: the weights are not on the sphere
        (1e-20, 1.0, 1e-20, True),  # squares of the weights beyond float32
        (1e-20, 1e-20, 1e-20, True),
        (1e20, 1e20, 1e20, True),
    ],
)
def test_steps_by_a_predicted_norm(start, radius, length, is_tangent):
    weights = start * sphere_point(BEYOND_CACHES)
    grad = tangent(weights, 4.0 * length)
    if not is_tangent:
        grad -= 2.0 * length / start * weights
    expected = projected_step(weights, grad, 0.25, radius)
    pt.ops.projected_sgd_step_(weights, grad, 0.25, radius)
    # One rounding more than without the prediction, which may be off by 2^-24.
    allowed = 6 * torch.finfo(torch.float32).eps * float(expected.abs().max())
    assert float((weights.double() - expected).abs().max()) <= allowed
    assert float(weights.double().norm()) == pytest.approx(radius, rel=2e-7)


def test_the_norm_does_not_drift_over_predicted_steps():
    weights = sphere_point(BEYOND_CACHES)
    for _ in range(10):
        pt.ops.projected_sgd_step_(weights, tangent(weights, 1.0), 0.25)
        assert float(weights.double().norm()) == pytest.approx(1.0, rel=2e-7)


def test_predicted_steps_have_the_same_bits_for_any_thread_count_and_instruction_set():
    start = sphere_point(BEYOND_CACHES)
    grad = tangent(start, 1.0)
    first, *others = on_every_instruction_set_and_thread_count(
        lambda: pt.ops.projected_sgd_step_(start.clone(), grad, 0.25)
    )
    assert all(torch.equal(first, other) for other in others)


def test_predicted_steps_refuse_bad_input_with_the_weights_untouched():
    start = sphere_point(BEYOND_CACHES)
    grad = tangent(start, 1.0)
    for bad in (NAN, INF):
        grad[BEYOND_CACHES - 2] = bad
        weights = start.clone()
        with pytest.raises(ValueError, match=f"grad: element {BEYOND_CACHES - 2} is"):
            pt.ops.projected_sgd_step_(weights, grad, 0.25)
        assert torch.equal(weights, start)
    zero = torch.zeros(BEYOND_CACHES)
    with pytest.raises(ValueError, match="weights: all elements are zero"):
        pt.ops.projected_sgd_step_(zero, start, 0.25)
    assert not zero.any()
    weights = start.clone()
    with pytest.raises(ValueError, match="the step ends at the origin"):
        pt.ops.projected_sgd_step_(weights, 4.0 * start, 0.25)
    assert torch.equal(weights, start)
    weights[7] = NAN
    with pytest.raises(ValueError, match="weights: element 7 is nan"):
        pt.ops.projected_sgd_step_(weights, start, 0.25)
    weights = start.clone()
    pt.ops.projected_sgd_step_(weights, torch.zeros(BEYOND_CACHES), 0.25)
    assert torch.equal(weights, start)


@on_all_kernels
@each_step
@each_dtype
def test_views_that_are_not_aligned(name, dtype):
    step, plain = STEPS[name]
    weights, grad = normal(2001, dtype=dtype)[1:], normal(2003, seed=1, dtype=dtype)[3:]
    weights, grad = weights / weights.norm(), grad / grad.norm()
    room = torch.zeros(2004, dtype=dtype)
    for offset in range(4):
        moved = room[offset : offset + 2000]
        moved.copy_(weights)
        step(moved, grad, 0.25)
        assert_close(moved, plain(weights, grad, 0.25, 1.0))
        assert not room[:offset].any()
        assert not room[offset + 2000 :].any()
        room.zero_()
