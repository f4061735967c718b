"""Steps with weight decay in full space: against plain arithmetic, the radius laws, and what is refused."""

from functools import partial

import numpy as np
import pytest
import torch
from backends import on_every_instruction_set_and_thread_count
from hypothesis import given
from hypothesis import strategies as st
from reference import EDGE_SIZES, decaying_step, normal

import pythermo as pt

STEPS = {
    "lr": (pt.ops.fixed_lr_step_, partial(decaying_step, effective=False)),
    "elr": (pt.ops.fixed_elr_step_, partial(decaying_step, effective=True)),
}
each_step = pytest.mark.parametrize("name", STEPS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
on_all_kernels = pytest.mark.usefixtures("kernels")


def assert_close(weights, expected):
    # Roundings of two factors and of three operations, relative to the largest term.
    allowed = 6 * torch.finfo(weights.dtype).eps * float(expected.abs().max())
    assert float((weights.double() - expected).abs().max()) <= allowed


@on_all_kernels
@each_step
@each_dtype
@pytest.mark.parametrize("size", EDGE_SIZES)
def test_agrees_with_the_plain_step(name, dtype, size):
    step, plain = STEPS[name]
    weights, grad = normal(size, seed=1, dtype=dtype), normal(size, seed=2, dtype=dtype)
    weights *= 2.0 / weights.norm()
    grad *= 2.0 / grad.norm()
    expected, untouched = plain(weights, grad, 0.0625, 0.25), grad.clone()
    assert step(weights, grad, 0.0625, 0.25) is weights
    assert_close(weights, expected)
    assert torch.equal(grad, untouched)


@on_all_kernels
@each_step
@each_dtype
@given(
    size=st.integers(1, 300),
    norm=st.sampled_from([0.125, 1.0, 8.0]),
    exponent=st.integers(-30, 30),
    lr=st.sampled_from([2.0**-20, 2.0**-10]),
    weight_decay=st.sampled_from([0.0, 2.0**-10, 0.5, 4.0]),
    seed=st.integers(0, 10**6),
)
def test_any_scale_of_the_gradient(name, dtype, size, norm, exponent, lr, weight_decay, seed):
    step, plain = STEPS[name]
    weights = normal(size, seed=seed, dtype=dtype)
    weights *= norm / weights.norm()
    grad = normal(size, seed=seed + 1, dtype=dtype) * 2.0**exponent
    expected = plain(weights, grad, lr, weight_decay)
    step(weights, grad, lr, weight_decay)
    assert_close(weights, expected)


@on_all_kernels
@each_step
def test_squares_beyond_float32(name):
    step, plain = STEPS[name]
    for scale in (1e-30, 1e25) if name == "lr" else (1e-15, 1e15):  # the learning rate is a float32 too
        weights, grad = scale * normal(1000), normal(1000, seed=1) / scale
        lr = 2.0**-100 if name == "lr" else 2.0**-10 / float(weights.double().norm()) ** 2
        expected = plain(weights, grad, lr, 0.5)
        step(weights, grad, lr, 0.5)
        assert_close(weights, expected)


@on_all_kernels
def test_without_weight_decay_it_is_plain_sgd():
    parameter = torch.nn.Parameter(normal(5000))
    parameter.grad = normal(5000, seed=3)
    weights = parameter.detach().clone()
    torch.optim.SGD([parameter], lr=0.125).step()
    pt.ops.fixed_lr_step_(weights, parameter.grad, 0.125, 0.0)
    torch.testing.assert_close(weights, parameter.detach(), rtol=2e-7, atol=2e-7)


@on_all_kernels
@each_step
def test_the_effective_learning_rate_moves_the_direction_alike_at_any_norm(name):
    grad = normal(500, seed=1, dtype=torch.float64)
    unit = normal(500, dtype=torch.float64)
    unit /= unit.norm()
    directions = []
    for norm in (0.5, 3.0):
        weights = norm * unit
        # The gradient of a scale-invariant loss falls as the inverse of the norm.
        STEPS[name][0](weights, grad / norm, 0.01, 0.0)
        directions.append(weights / weights.norm())
    alike = float((directions[0] - directions[1]).abs().max()) < 1e-14
    assert alike == (name == "elr")


@on_all_kernels
@each_step
@each_dtype
def test_without_gradient_the_weights_decay(name, dtype):
    weights = torch.full((4,), 0.5, dtype=dtype)  # of norm 1
    STEPS[name][0](weights, torch.zeros(4, dtype=dtype), 0.5, 0.5)
    assert weights.tolist() == [0.375] * 4
    pieces = [torch.full((2, 1), 0.5, dtype=dtype), torch.full((2,), 0.5, dtype=dtype)]
    STEPS[name][0](pieces, [None, None], 0.5, 0.5)
    assert [piece.flatten().tolist() for piece in pieces] == [[0.375] * 2] * 2


@on_all_kernels
@each_step
@each_dtype
def test_a_learning_rate_of_zero_changes_nothing(name, dtype):
    weights = normal(1000, dtype=dtype)
    before = weights.clone()
    STEPS[name][0](weights, normal(1000, seed=1, dtype=dtype), 0.0, 0.5)
    assert torch.equal(weights, before)


@on_all_kernels
@each_step
def test_tensors_are_one_point_to_the_bit(name):
    flat, grad = normal(5000), normal(5000, seed=1)
    pieces = [flat[:7].clone(), flat[7:4007].clone().reshape(40, 100), flat[4007:].clone()]
    grads = [grad[:7].clone(), grad[7:4007].clone().reshape(40, 100), grad[4007:].clone()]
    STEPS[name][0](flat, grad, 1e-6, 0.5)
    STEPS[name][0](pieces, grads, 1e-6, 0.5)
    assert torch.equal(torch.cat([piece.flatten() for piece in pieces]), flat)


@each_step
def test_equal_bits_on_every_instruction_set_and_thread_count(name):
    def stepped():
        weights = normal(200_003)
        STEPS[name][0](weights, normal(200_003, seed=1), 1e-6, 0.5)
        return weights

    first, *others = on_every_instruction_set_and_thread_count(stepped)
    assert all(torch.equal(first, other) for other in others)


@on_all_kernels
@each_step
@each_dtype
@pytest.mark.parametrize(
    ("weights", "grad", "lr", "weight_decay", "message"),
    [
        ([1.0, 0.0], [0.0, 1.0], 1.0, 1.0, "weight_decay: .*their norm is lost"),
        ([1.0, 0.0], [0.0, 1.0], 0.5, 3.0, "weight_decay: .*their norm is lost"),
        ([1e38, 0.0], [0.0, 1e38], 1e300, 0.0, "lr: must be finite in the weights' dtype|norm is lost"),
        ([0.0, 0.0], [0.0, 1.0], 0.5, 0.5, "weights: all elements are zero; they must have a direction"),
        ([1.0, 0.0], [float("nan"), 1.0], 0.5, 0.5, "finite"),
        ([1.0, float("inf")], [0.0, 1.0], 0.5, 0.5, "finite"),
        ([1.0, 0.0], [0.0, 1.0], -0.5, 0.5, "lr: must be finite"),
        ([1.0, 0.0], [0.0, 1.0], 0.5, -0.5, "weight_decay: must be"),
        ([1.0, 0.0], [0.0, 1.0], 0.5, float("nan"), "weight_decay: must be"),
        ([1.0, 0.0], [0.0, 1.0], 0.5, float("inf"), "weight_decay: must be"),
    ],
)
def test_what_is_refused_changes_no_weight(name, dtype, weights, grad, lr, weight_decay, message):
    w = torch.tensor(weights, dtype=dtype)
    before = w.clone()
    with pytest.raises(ValueError, match=message):
        STEPS[name][0](w, torch.tensor(grad, dtype=dtype), lr, weight_decay)
    assert torch.equal(w, before)


@on_all_kernels
def test_a_norm_that_overflows_is_refused():
    weights = torch.full((4,), 1e38)
    with pytest.raises(ValueError, match="their norm is lost"):
        pt.ops.fixed_elr_step_(weights, torch.ones(4), 1.0, 0.0)
    assert torch.equal(weights, torch.full((4,), 1e38))


@on_all_kernels
@each_step
def test_weights_whose_square_underflows_are_refused(name):
    weights = torch.full((4,), 1e-200, dtype=torch.float64)
    with pytest.raises(ValueError, match="weights: all elements are zero"):
        STEPS[name][0](weights, torch.ones(4, dtype=torch.float64), 0.5, 0.5)
    assert weights.tolist() == [1e-200] * 4


@each_step
@pytest.mark.parametrize("wrong", ["much", None, np.zeros(2)])
def test_weight_decay_that_is_no_number(name, wrong):
    with pytest.raises(TypeError, match="weight_decay"):
        STEPS[name][0](torch.ones(2), torch.ones(2), 0.1, wrong)


@pytest.mark.parametrize("effective_lr", [False, True])
def test_the_optimizer_agrees_with_torch_and_obeys_the_radius_law(effective_lr):
    """<w, g> = 0 of a scale-invariant loss gives, step by step, |w'|^2 = f^2 |w|^2 + eta^2 |g|^2 exactly."""
    kept = [
        torch.nn.Parameter(normal(30, 2, dtype=torch.float64)),
        torch.nn.Parameter(normal(40, dtype=torch.float64)),
    ]
    twins = [torch.nn.Parameter(one.detach().clone()) for one in kept]
    lr, weight_decay = (1e-3, 0.05) if effective_lr else (0.02, 0.05)
    optimizer = pt.WeightDecaySGD(kept, lr, weight_decay, effective_lr)
    by_torch = torch.optim.SGD(twins, lr, weight_decay=weight_decay)
    target = normal(100, seed=2, dtype=torch.float64)

    def backward(params, noise):
        for one in params:
            one.grad = None
        flat = torch.cat([one.flatten() for one in params])
        (flat / flat.norm() @ (target + noise)).backward()
        return float(flat.detach() @ flat.detach()), sum(float(one.grad.square().sum()) for one in params)

    predicted = None
    for step in range(1000):
        noise = normal(100, seed=100 + step, dtype=torch.float64)
        square, gradient = backward(kept, noise)
        assert predicted is None or square == pytest.approx(predicted, rel=1e-12)  # 300 roundings of 1e-16
        eta = lr * square if effective_lr else lr
        predicted = (1.0 - eta * weight_decay) ** 2 * square + eta**2 * gradient
        optimizer.step()
        square, _ = backward(twins, noise)
        by_torch.param_groups[0]["lr"] = lr * square if effective_lr else lr
        by_torch.step()
    for one, twin in zip(kept, twins, strict=True):
        # A rounding in each of 1000 steps, which weight decay and the curvature of the loss contract.
        torch.testing.assert_close(one.detach(), twin.detach(), rtol=1e-11, atol=1e-11)


def test_the_optimizer_refuses_what_has_no_meaning():
    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="weight_decay: must be"):
        pt.WeightDecaySGD([parameter], 0.1, -1.0)
    with pytest.raises(TypeError, match="effective_lr: must be True or False, not 1"):
        pt.WeightDecaySGD([parameter], 0.1, 0.1, 1)
    with pytest.raises(ValueError, match="listed twice"):
        pt.WeightDecaySGD([parameter, parameter], 0.1, 0.1)
    other = torch.nn.Parameter(torch.ones(3))
    optimizer = pt.WeightDecaySGD([{"params": [parameter]}, {"params": [other], "lr": 0.5}], 0.1, 2.0)
    parameter.grad, other.grad = torch.ones(3), torch.ones(3)
    with pytest.raises(ValueError, match="their norm is lost"):
        optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))  # no group has moved
    optimizer.param_groups[1]["weight_decay"] = 0.5
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.7))
    torch.testing.assert_close(other.detach(), torch.full((3,), 0.25))


def test_groups_have_norms_of_their_own():
    first, second = torch.nn.Parameter(torch.tensor([2.0, 0.0])), torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    optimizer = pt.WeightDecaySGD([{"params": [first]}, {"params": [second]}], 0.125, 0.5, effective_lr=True)
    first.grad, second.grad = torch.tensor([0.0, -1.0]), torch.tensor([0.0, -1.0])
    optimizer.step()
    assert first.tolist() == [1.5, 0.5]
    assert second.tolist() == [0.9375, 0.125]
