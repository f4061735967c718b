"""What is wrong with tensors is said in the same words wherever they lie."""

import re

import backends
import pytest
import torch

import pythermo as pt


def ones(*shape, device, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype, device=device)


def window(device):
    return pt.TrajectoryEntropy(4, window=3, ks=[1], device=device)


# A call with one wrong argument on a device, the exception and what it says; {device} stands for the device.
CASES = {
    "step, dtype": (
        lambda on: pt.ops.projected_sgd_step_(
            ones(3, device=on), ones(3, device=on, dtype=torch.float64), 0.1
        ),
        TypeError,
        "grad: the dtype must be that of weights, torch.float32, not torch.float64",
    ),
    "step, half": (
        lambda on: pt.ops.projected_sgd_step_(ones(3, device=on).half(), ones(3, device=on).half(), 0.1),
        TypeError,
        "weights: the dtype must be float32 or float64, not torch.float16",
    ),
    "step, views": (
        lambda on: pt.ops.exponential_sgd_step_(ones(6, device=on)[::2], ones(3, device=on), 0.1),
        ValueError,
        "weights and grad: both must be contiguous",
    ),
    "step, shapes": (
        lambda on: pt.ops.projected_sgd_step_(ones(3, device=on), ones(4, device=on), 0.1),
        ValueError,
        "weights and grad: both must have the same shape [D], not [3] and [4]",
    ),
    "step, empty": (
        lambda on: _stepped(torch.empty(0, device=on)),
        ValueError,
        "weights: all elements are zero; they must have a direction",
    ),
    "step, devices": (
        lambda on: pt.ops.projected_sgd_step_(ones(3, device=on), ones(3, device="meta"), 0.1),
        ValueError,
        "grad: must lie on the device of weights, {device}, not meta",
    ),
    "step, rates": (
        lambda on: pt.ops.projected_sgd_step_(ones(3, device=on), ones(3, device=on), ones(2, device=on)),
        (ValueError, TypeError),
        "lr: must be",
    ),
    "optimizer, devices": (
        lambda on: pt.ProjectedSGD(
            [ones(3, device=on).requires_grad_(), ones(3, device="meta").requires_grad_()], lr=0.1
        ),
        ValueError,
        "params: all of a group must share dtype and device; there are torch.float32 on {device} and torch.float32 on meta",
    ),
    "neighbors, dtype": (
        lambda on: pt.ops.knn_distances(ones(4, 3, device=on).bfloat16(), 1),
        TypeError,
        "points: the dtype must be float32 or float64, not torch.bfloat16",
    ),
    "neighbors, shape": (
        lambda on: pt.ops.knn_distances(ones(4, device=on), 1),
        ValueError,
        "points: the shape must be [..., n, D] with n >= 1 and D >= 1, not [4]",
    ),
    "neighbors, no point": (
        lambda on: pt.ops.knn_distance_sums(ones(0, 3, device=on), [1]),
        ValueError,
        "points: the shape must be [..., n, D] with n >= 1 and D >= 1, not [0, 3]",
    ),
    "neighbors, no coordinate": (
        lambda on: pt.ops.knn_distances(ones(4, 0, device=on), 1),
        ValueError,
        "points: the shape must be [..., n, D] with n >= 1 and D >= 1, not [4, 0]",
    ),
    "neighbors, k": (
        lambda on: pt.ops.nearest_neighbors(ones(4, 3, device=on), 4),
        ValueError,
        "k: 4 is not a number of neighbors among 4 points",
    ),
    "neighbors, NaN": (
        lambda on: pt.ops.knn_distances(torch.tensor([[0.0, 1.0], [1.0, torch.nan]], device=on), 1),
        ValueError,
        "points: row [1] holds NaN or infinity",
    ),
    "matrix, devices": (
        lambda on: pt.ops.update_squared_distances_(
            ones(3, 3, device="meta", dtype=torch.float64), ones(3, 2, device=on), 0, 3
        ),
        ValueError,
        "matrix: must lie on the device of points, {device}, not meta",
    ),
    "matrix, range": (
        lambda on: pt.ops.update_squared_distances_(
            ones(3, 3, device=on, dtype=torch.float64), ones(3, 2, device=on), 2, 2
        ),
        ValueError,
        "changed:",
    ),
    "sketch, dtype": (
        lambda on: pt.ops.sketch(ones(3, device=on).half(), 2),
        TypeError,
        "weights: the dtype must be float32 or float64, not torch.float16",
    ),
    "sketch, view": (
        lambda on: pt.ops.sketch(ones(6, device=on)[::2], 2),
        ValueError,
        "weights: must have the shape [D] and be contiguous",
    ),
    "gradients, view": (
        lambda on: pt.ops.gradient_sums_(ones(6, device=on)[::2]),
        ValueError,
        "grad: must have the shape [D] and be contiguous",
    ),
    "gradients, devices": (
        lambda on: pt.ops.gradient_sums_(ones(3, device=on), ones(3, device="meta", dtype=torch.float64)),
        ValueError,
        "center: must have the shape [3] on {device} and be contiguous, not [3] on meta",
    ),
    "noise, devices": (
        lambda on: pt.gradient_noise(ones(3, device=on), [ones(3, device="meta")]),
        ValueError,
        "stochastic_grads[0]: must have the shape [3] on {device}, not [3] on meta",
    ),
    "noise about the mean, devices": (
        lambda on: pt.gradient_noise_about_mean([ones(3, device=on), ones(3, device="meta")]),
        ValueError,
        "stochastic_grads[1]: must have the shape [3] on {device}, not [3] on meta",
    ),
    "noise, none": (
        lambda on: pt.gradient_noise(ones(3, device=on), ones(0, 3, device=on)),
        ValueError,
        "stochastic_grads: at least 1 needed, 0 given",
    ),
    "window, dtype": (
        lambda on: window(on).append(ones(4, device=on, dtype=torch.float64)),
        ValueError,
        "weights: must be torch.float32 of shape [4], not torch.float64 of shape [4]",
    ),
    "window, shape": (
        lambda on: window(on).append(ones(3, device=on)),
        ValueError,
        "weights: must be torch.float32 of shape [4], not torch.float32 of shape [3]",
    ),
    "window, its device": (
        lambda on: window("meta"),
        ValueError,
        "device: must be cpu, cuda or cuda:N, not 'meta'",
    ),
    "simulator, start": (
        lambda on: pt.sphere.simulate(
            pt.sphere.overparameterized(), 0.1, 2, start=[0.0, 0.0, 0.0], device=on
        ),
        ValueError,
        "start",
    ),
    "simulator, no step": (
        lambda on: pt.sphere.simulate(pt.sphere.overparameterized(), 0.1, 0, device=on),
        ValueError,
        "steps",
    ),
    "simulator, no rate": (
        lambda on: pt.sphere.simulate(pt.sphere.overparameterized(), [], 1, device=on),
        ValueError,
        "lr",
    ),
    "simulator, dtype": (
        lambda on: pt.sphere.simulate(pt.sphere.overparameterized(), 0.1, 2, dtype="float16", device=on),
        ValueError,
        "dtype: must be",
    ),
}


def _stepped(weights):
    pt.ops.projected_sgd_step_(weights, weights.clone(), 0.1)
    pt.ops.raise_failed_steps(weights.device)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["cpu", "emulated", backends.ON_DEVICE])
def test_is_named(kind, case, monkeypatch):
    device = "cuda" if kind == "cuda" else "cpu"
    if kind == "emulated":
        backends.emulate(monkeypatch)
    call, error, message = CASES[case]
    where = str(torch.ones(1, device=device).device)
    with pytest.raises(error, match=re.escape(message.format(device=where))):
        call(device)


@pytest.mark.cuda
def test_the_cpu_beside_a_device():
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    for weights, grad in ((here, there), (there, here)):
        with pytest.raises(ValueError, match="grad: must lie on the device of weights"):
            pt.ops.projected_sgd_step_(weights, grad, 0.1)
    with pytest.raises(ValueError, match=r"stochastic_grads\[1\]: must have the shape \[3\] on cuda:0"):
        pt.gradient_noise_about_mean([there, here])


@pytest.mark.cuda
def test_a_second_device():
    """Work on a device that is not the current one, and arguments on two devices."""
    if torch.cuda.device_count() < 2:
        pytest.skip("did not run: there is one CUDA device only")
    first, second = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
    with pytest.raises(ValueError, match="grad: must lie on the device of weights, cuda:0, not cuda:1"):
        pt.ops.projected_sgd_step_(first, second, 0.1)
    points = torch.randn(100, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        pt.ops.knn_distances(points.to("cuda:1"), 5).cpu(), pt.ops.knn_distances(points.to("cuda:0"), 5).cpu()
    )
    moved = [
        pt.ops.projected_sgd_step_(torch.ones(3, device=on), torch.arange(3.0, device=on), 0.1)
        for on in ("cuda:0", "cuda:1")
    ]
    assert torch.equal(moved[0].cpu(), moved[1].cpu())
    with pytest.raises(ValueError, match="device: cuda:99 cannot be used"):
        pt.sphere.simulate(pt.sphere.overparameterized(), 0.1, 2, device="cuda:99")
