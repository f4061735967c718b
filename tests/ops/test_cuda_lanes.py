"""CUDA's kernels of members side by side against float64 torch, member by member, at the edges of their tiles."""

import emulation
import numpy as np
import pytest
import torch
from torch.nn import functional

from pythermo.ops._steps import STEP_ERRORS
from pythermo.ops.lanes_batch_norm import (
    add_gradient_moments,
    add_moments,
    normalize,
    normalize_back,
    write_gradient_statistics,
    write_statistics,
)
from pythermo.ops.lanes_convolution import add_weight_gradients, convolve, convolve_back
from pythermo.ops.lanes_gradient_sums import member_gradient_sums
from pythermo.ops.lanes_head import head_losses
from pythermo.ops.lanes_step import STEPS, gather, member_step, products

GROUPS, LANES = 2, 32
MEMBERS = GROUPS * LANES
EPS = 1e-5

# images, height, width, channels, outputs, taps, stride, padding: whole tiles and parts of them, several
# images in a block, channels beyond a block's, more tiles than a part of the weights' gradient has.
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1, 0),
    (3, 4, 4, 3, 8, 3, 1, 1),
    (2, 8, 8, 8, 9, 3, 1, 1),
    (5, 5, 6, 2, 3, 3, 1, 1),
    (2, 7, 14, 5, 17, 3, 1, 1),
    (3, 2, 2, 9, 20, 3, 1, 1),
    (1, 3, 5, 4, 4, 3, 1, 2),
    (2, 6, 7, 1, 5, 3, 1, 0),
    (3, 9, 8, 4, 6, 3, 2, 1),
    (2, 2, 3, 3, 8, 3, 2, 1),
    (2, 8, 9, 6, 7, 1, 2, 0),
    (2, 5, 14, 7, 3, 1, 1, 0),
    (9, 16, 12, 1, 2, 3, 1, 1),
]


@pytest.fixture
def large(cuda):
    """Let the emulated device have the shared memory of an H100, where tiles are largest."""
    emulation.module().set_most_shared_bytes(227 * 1024)
    return cuda


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape)).float()


def here(of_members):
    """Return a tensor [members, ...] as it lies on a device, [groups, ..., 32]."""
    in_groups = of_members.view(GROUPS, LANES, *of_members.shape[1:])
    return in_groups.movedim(1, -1).clone(memory_format=torch.contiguous_format)


def apart(side_by_side):
    """Return what lies so as [members, ...]."""
    return side_by_side.movedim(-1, 1).flatten(0, 1)


def close(found, expected, tolerance):
    """Deviations in units of the largest number expected: products that cancel leave nothing else."""
    apart_by = float((found.double() - expected).abs().max() / expected.abs().max())
    assert apart_by < tolerance, apart_by


def convolution_case(shape):
    images, height, width, channels, outputs, taps, stride, padding = shape
    x = normal(MEMBERS, images, height, width, channels, seed=1)
    w = normal(MEMBERS, taps, taps, channels, outputs, seed=2)

    def reference(x, w):
        one = [
            functional.conv2d(a.permute(0, 3, 1, 2), b.permute(3, 2, 0, 1), stride=stride, padding=padding)
            for a, b in zip(x, w, strict=True)
        ]
        return torch.stack(one).permute(0, 1, 3, 4, 2)

    x64, w64 = x.double().requires_grad_(), w.double().requires_grad_()
    y64 = reference(x64, w64)
    grad = normal(*y64.shape, seed=3)
    dx, dw = torch.autograd.grad(y64, (x64, w64), grad.double())
    return x, w, grad, y64.detach(), dx, dw, (stride, padding)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.usefixtures("large")
def test_convolutions(shape):
    require_convolutions(shape)


@pytest.mark.parametrize("shape", [SHAPES[3], SHAPES[4], SHAPES[8], SHAPES[10], SHAPES[12]])
@pytest.mark.usefixtures("emulated")
def test_convolutions_on_devices_with_little_shared_memory(shape):
    emulation.module().set_most_shared_bytes(64 * 1024)  # sm_75
    require_convolutions(shape)


def require_convolutions(shape):
    x, w, grad, expected, dx, dw, how = convolution_case(shape)
    output = here(torch.full_like(grad, torch.nan))
    convolve(here(x), here(w), *how, output)
    close(apart(output), expected, 2e-6)
    grad_x = here(torch.full_like(x, torch.nan))
    convolve_back(here(grad), here(w), *how, grad_x)
    close(apart(grad_x), dx, 2e-6)
    before = normal(*w.shape, seed=4)
    grad_w = here(before)
    add_weight_gradients(here(x), here(grad), *how, grad_w)
    close(apart(grad_w), dw + before, 5e-6)


def test_that_a_wrong_weight_is_seen(emulated):
    """What the tolerance is worth: one tap of one channel, taken from its neighbor."""
    x, w, grad, expected, _, _, how = convolution_case(SHAPES[2])
    w[:, 2, 0, 7] = w[:, 2, 1, 7]
    output = here(torch.empty_like(grad))
    convolve(here(x), here(w), *how, output)
    with pytest.raises(AssertionError):
        close(apart(output), expected, 1e-3)


@pytest.mark.usefixtures("large")
def test_a_member_does_not_depend_on_the_others():
    """The same bits alone in a group, in another group, beside others, and beside members that are NaN."""
    x, w, grad, _, _, _, how = convolution_case(SHAPES[4])

    def results(x, w, grad):
        output, grad_x, grad_w = (here(torch.zeros_like(one)) for one in (grad, x, w))
        convolve(here(x), here(w), *how, output)
        convolve_back(here(grad), here(w), *how, grad_x)
        add_weight_gradients(here(x), here(grad), *how, grad_w)
        return [apart(one) for one in (output, grad_x, grad_w)]

    before = results(x, w, grad)
    order = torch.arange(MEMBERS - 1, -1, -1)
    moved = [one[order].clone() for one in (x, w, grad)]
    for one in moved:
        one[1::2] = torch.nan
    for one, other in zip(before, results(*moved), strict=True):
        assert torch.equal(one[order][::2], other[::2])


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize(
    ("images", "height", "width", "channels", "pool"),
    [(3, 5, 7, 2, 2), (2, 4, 4, 9, 1), (40, 6, 6, 3, 2), (3, 2, 2, 17, 2)],
)
def test_normalization(cuda, images, height, width, channels, pool, rectify):
    x = 3.0 + 2.0 * normal(MEMBERS, images, height, width, channels)
    x64 = x.double().requires_grad_()
    y64 = (x64 - x64.mean((1, 2, 3), keepdim=True)) / (
        x64.var((1, 2, 3), keepdim=True, correction=0) + EPS
    ).sqrt()
    if pool == 2:
        y64 = functional.max_pool2d(y64.permute(0, 1, 4, 2, 3).flatten(0, 1), 2)
        y64 = y64.unflatten(0, (MEMBERS, images)).permute(0, 1, 3, 4, 2)
    y64 = y64.relu() if rectify else y64
    grad = normal(*y64.shape, seed=1)
    (dx,) = torch.autograd.grad(y64, x64, grad.double())

    own, output, sums = (
        here(x),
        here(torch.full_like(grad, torch.nan)),
        torch.zeros(GROUPS * 2 * channels * LANES),
    )
    constants, sums = sums.new_empty(GROUPS * 4 * channels * LANES), sums.double()
    add_moments(own, own, sums)
    write_statistics(sums, own, EPS, constants)
    normalize(own, pool, rectify, constants, output)
    close(apart(output), y64.detach(), 2e-6)
    gradient_sums = torch.zeros_like(sums)
    add_gradient_moments(output, rectify, here(grad), gradient_sums)
    write_gradient_statistics(gradient_sums, own, constants)
    grad_x = here(torch.full_like(x, torch.nan))
    normalize_back(own, pool, rectify, constants, here(grad), grad_x)
    close(apart(grad_x), dx, 2e-5)
    normalize_back(own, pool, rectify, constants, here(grad), own)  # in the place of the images
    assert torch.equal(own, grad_x)


def test_moments_of_several_parts_are_added(cuda):
    x = 100.0 + normal(MEMBERS, 30, 6, 7, 2)
    sums = torch.zeros(GROUPS * 2 * 2 * LANES, dtype=torch.float64)
    own = here(x)
    add_moments(own, own, sums)
    add_moments(here(x[:, 5:9]), own, sums)
    shifted = x.double() - x[:, :1, :1, :1].double()
    expected = [
        (shifted**power).sum((1, 2, 3)) + (shifted[:, 5:9] ** power).sum((1, 2, 3)) for power in (1, 2)
    ]
    found = sums.view(GROUPS, 2, 2, LANES).permute(1, 0, 3, 2).flatten(1, 2)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("squared_error", [False, True])
@pytest.mark.parametrize("largest", [False, True])
def test_head(cuda, largest, squared_error, bias):
    images, pixels, features, classes = 5, 6, 11, 7
    x, labels = normal(MEMBERS, images, pixels, features), torch.arange(MEMBERS * images) % classes
    w, b = normal(classes, features, seed=1), normal(classes, seed=2) if bias else torch.empty(0)
    x64 = x.double().requires_grad_()
    pooled = x64.amax(2) if largest else x64.mean(2)
    logits = pooled @ w.double().T + (b.double() if bias else 0.0)
    labels = labels.view(MEMBERS, images)
    if squared_error:
        losses = (logits - functional.one_hot(labels, classes)).square().sum(2).mean(1)
    else:
        losses = functional.cross_entropy(logits.permute(0, 2, 1), labels, reduction="none").mean(1)
    (dx,) = torch.autograd.grad(losses.sum(), x64)
    found, hits = torch.empty(MEMBERS, dtype=torch.float64), torch.empty(MEMBERS, dtype=torch.int64)
    grad = here(torch.full_like(x, torch.nan))
    head_losses(
        here(x), w, b, here(labels), largest=largest, squared_error=squared_error, losses=found, hits=hits,
        grad=grad.view(-1),
    )  # fmt: skip
    close(found, losses.detach(), 1e-6)
    assert torch.equal(hits, (logits.argmax(2) == labels).sum(1))
    close(apart(grad), dx, 2e-6)


def test_the_first_of_equal_pixels_has_the_gradient(cuda):
    x, labels = torch.ones(MEMBERS, 2, 3, 4), torch.zeros(MEMBERS, 2, dtype=torch.int64)
    w, grad = normal(5, 4), here(torch.full_like(x, torch.nan))
    losses, hits = torch.empty(MEMBERS, dtype=torch.float64), torch.empty(MEMBERS, dtype=torch.int64)
    head_losses(
        here(x), w, torch.empty(0), here(labels), largest=True, squared_error=False, losses=losses, hits=hits,
        grad=grad.view(-1),
    )  # fmt: skip
    found = apart(grad)
    assert bool((found[:, :, 0] != 0).all())
    assert bool((found[:, :, 1:] == 0).all())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [1, 7, 513, 3000])
def test_step(cuda, step, size):
    on_sphere = step in ("lanes_projected_step", "lanes_exponential_step")
    radius = 1.5
    parameter = torch.full((MEMBERS,), radius if on_sphere else 0.1, dtype=torch.float64)
    parameter[10], parameter[11] = torch.nan, -1.0
    w, g = normal(MEMBERS, size), normal(MEMBERS, size, seed=1)
    w *= radius / w.norm(dim=1, keepdim=True)
    lr = torch.linspace(0.01, 0.2, MEMBERS, dtype=torch.float64)
    lr[5], g[6], g[7, 0], w[8], lr[9] = 0.0, 0.0, torch.nan, 0.0, -1.0
    own, status = here(w), torch.full((MEMBERS,), -1)
    member_step(step, own, here(g), lr, parameter, status)
    w64, g64, rate = w.double(), g.double(), lr.float().double()[:, None]
    if not on_sphere:
        eta = rate * w64.square().sum(1, keepdim=True) if "elr" in step else rate
        expected = w64 - eta * (g64 + 0.1 * w64)
    elif step == "lanes_projected_step":
        v = w64 - rate * g64
        expected = radius * v / v.norm(dim=1, keepdim=True)
    else:
        tangent = g64 - (w64 * g64).sum(1, keepdim=True) / w64.square().sum(1, keepdim=True) * w64
        length = tangent.norm(dim=1, keepdim=True)
        angle = rate * length / radius
        along = torch.where(length > 0, radius * angle.sin() / length, 0.0)
        expected = angle.cos() * w64 * radius / w64.norm(dim=1, keepdim=True) - along * tangent
    stays = torch.zeros(MEMBERS, dtype=torch.bool)
    stays[5:12] = True
    stays[6] = on_sphere  # without a gradient there is decay
    found = apart(own)
    assert torch.equal(found[stays], w[stays])
    assert [STEP_ERRORS.get(code) is not None for code in status[5:12].tolist()] == [
        False,
        False,
        True,
        True,
        True,
        True,
        True,
    ]
    assert int(status[~stays].abs().sum()) == 0
    # One coordinate has no direction to turn to: what is left of its tangent is rounding.
    if size > 1 or step != "lanes_exponential_step":
        close(found[~stays], expected[~stays], 3e-7)


@pytest.mark.parametrize("size", [1, 7, 513, 3000])
def test_products(cuda, size):
    w, g = normal(MEMBERS, size), normal(MEMBERS, size, seed=1)
    found = torch.empty(MEMBERS * 3, dtype=torch.float64)
    products(here(w), here(g), found)
    w64, g64 = w.double(), g.double()
    expected = torch.stack([(w64 * w64).sum(1), (g64 * g64).sum(1), (w64 * g64).sum(1)], dim=1)
    torch.testing.assert_close(apart(found.view(GROUPS, 3, LANES)), expected, rtol=1e-13, atol=1e-12 * size)


@pytest.mark.parametrize("size", [1, 8, 13])
def test_gathering(cuda, size):
    samples = normal(20, size)
    indices = torch.from_numpy(np.random.default_rng(0).integers(20, size=(MEMBERS, 6)))
    indices[40, 3] = 20
    indices[41, 2] = -1
    out = torch.empty(GROUPS, 6, size, LANES)
    gather(samples, indices, out)
    expected = samples[indices.clamp(0, 19)]
    expected[40, 3] = expected[41, 2] = torch.nan
    torch.testing.assert_close(apart(out), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("size", [0, 1, 700])
@pytest.mark.parametrize("with_center", [False, True])
def test_gradient_sums(cuda, size, with_center):
    grad, center = normal(MEMBERS, size), normal(MEMBERS, size, seed=1).double()
    total = normal(MEMBERS, size, seed=2).double()
    own_total = here(total)
    sums = member_gradient_sums(here(grad), here(center) if with_center else None, own_total)
    distance = grad.double() - (center if with_center else 0.0)
    found = sums.permute(0, 2, 1).flatten(0, 1)
    torch.testing.assert_close(found[:, 0], grad.double().square().sum(1))
    torch.testing.assert_close(found[:, 1], distance.square().sum(1))
    torch.testing.assert_close(apart(own_total), total + grad)


def test_arguments_that_do_not_fit_are_named(emulated):
    x, w = torch.zeros(1, 2, 4, 4, 3, 32), torch.zeros(1, 3, 3, 3, 5, 32)
    y = torch.zeros(1, 2, 4, 4, 5, 32)
    for bad, argument in [
        ((torch.zeros(1, 2, 4, 4, 3, 16), w, 1, 1, y), "images: must have 32 members"),
        ((x, torch.zeros(1, 3, 3, 2, 5, 32), 1, 1, y), "weights: must have the channels"),
        ((x, torch.zeros(2, 3, 3, 3, 5, 32), 1, 1, y), "weights: must have the groups"),
        ((x, w, 3, 1, y), "the stride must be 1 or 2"),
        ((x, w, 1, 1, torch.zeros(1, 2, 4, 3, 5, 32)), "output: must have the convolution's size"),
        ((x[:, :0], w, 1, 1, y[:, :0]), "images: must have groups, images"),
    ]:
        with pytest.raises(ValueError, match=argument):
            convolve(*bad)
