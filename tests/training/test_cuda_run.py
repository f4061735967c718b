"""Runs on a CUDA device, and what is refused where there is none."""

import numpy as np
import pytest
import torch

import pythermo as pt
from pythermo.config.schema import RunConfig
from pythermo.training.batches import BatchesOnDevice, EpochBatches, IidBatches
from pythermo.training.step import captured_step
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer


def config(lr=0.05, **training) -> RunConfig:
    return RunConfig.model_validate(
        {
            "lr": lr,
            "model": {"name": "ConvNet", "width": 2},
            "data": {"name": "digits", "samples_per_class": 20},
            "training": {"iterations": 120, "batch_size": 32, **training},
            "measurement": {"count": 10, "window": 60, "gradients": 4, "stationary": 3},
        }
    )


@pytest.mark.cuda
def test_a_run_on_the_device_is_that_of_the_cpu_to_rounding():
    """At a learning rate that does not amplify float32 rounding: at 0.05 it moves the entropy by a factor of 6."""
    on_cpu, there = pt.run(config(lr=0.003)), pt.run(config(lr=0.003, device="cuda"))
    # Rounding alone moves these by 9e-6, 1.2e-5 and, per dimension, 0.035; ten times that is allowed.
    np.testing.assert_allclose(there["loss"][:5], on_cpu["loss"][:5], rtol=1e-4)
    np.testing.assert_allclose(there["mean_grad_norm"][:5], on_cpu["mean_grad_norm"][:5], rtol=1e-4)
    per_dim = (there["entropy"][-1] - on_cpu["entropy"][-1]) / dimension()
    assert np.abs(per_dim).max() < 0.35


@pytest.mark.cuda
@pytest.mark.parametrize("sampling", ["iid", "epochs"])
def test_a_captured_run_has_the_bits_of_one_that_is_not(sampling):
    plain = pt.run(config(device="cuda", sampling=sampling))
    captured = pt.run(config(device="cuda", sampling=sampling, cuda_graph=True))
    again = pt.run(config(device="cuda", sampling=sampling))
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], again[name])
        np.testing.assert_array_equal(plain[name], captured[name])


def dimension() -> int:
    return sum(
        param.numel() for param in pt.models.ConvNet(2, in_channels=1).parameters() if param.requires_grad
    )


@pytest.mark.cuda
def test_a_capture_leaves_weights_and_buffers_as_they_were():
    """Its warm-up makes steps, and BatchNorm's running means move in them."""
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm2d(4, affine=False)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False), norm, torch.nn.Flatten(), torch.nn.Linear(144, 10)
    ).cuda()
    model[3].requires_grad_(False)
    optimizer = pt.ProjectedSGD([param for param in model.parameters() if param.requires_grad], lr=0.1)
    images = pt.data.load("digits").to(torch.device("cuda"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = captured_step(model, torch.nn.functional.cross_entropy, optimizer, images, 16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    step(torch.arange(16, device="cuda"))
    torch.cuda.synchronize()
    assert not torch.equal(model[0].weight, before["0.weight"])
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.cuda
def test_a_step_that_fails_on_another_stream_is_told():
    weights, grad = torch.ones(10**7, device="cuda"), torch.full((10**7,), torch.nan, device="cuda")
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        torch.cuda._sleep(10**8)  # some 50 ms: the step has not begun when it is asked about
        pt.ops.projected_sgd_step_(weights, grad, 0.1)
    with pytest.raises(ValueError, match="must be finite"):
        pt.ops.raise_failed_steps("cuda")


@pytest.mark.cuda
def test_measuring_on_the_device_changes_nothing():
    with own_settings(threads=None):
        measured, unmeasured = (Trainer(config(device="cuda", cuda_graph=True)) for _ in range(2))
        for _ in range(120):
            measured.step(), unmeasured.step()
            if measured.measurement_due:
                measured.measure()
    assert torch.equal(measured.weights(), unmeasured.weights())


@pytest.mark.cuda
def test_a_window_in_pinned_memory_gives_the_same_entropies():
    on_device, on_host = (pt.run(config(device="cuda", window_device=where)) for where in ("device", "host"))
    np.testing.assert_allclose(on_device["entropy"], on_host["entropy"], rtol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device: cuda cannot be used"):
        pt.run(config(device="cuda"))


def test_what_needs_cuda_is_refused_on_the_cpu():
    for key in ({"cuda_graph": True}, {"window_device": "host"}):
        with pytest.raises(ValueError, match="are for a CUDA device; device is cpu"):
            config(**key)
    with pytest.raises(ValueError, match="device"):
        config(device="tpu")
    with pytest.raises(ValueError, match="pinned: is for memory of the host"):
        pt.TrajectoryEntropy(5, window=5, device="cuda" if torch.cuda.is_available() else "cpu", pinned=True)


@pytest.mark.parametrize("batches", [IidBatches(50, 8, 3), EpochBatches(50, 8, 3)])
def test_batches_ahead_are_those_of_each_step(batches):
    """A device other than the CPU, whose tensors hold nothing here: the shapes and the steps asked for."""
    ahead, asked = BatchesOnDevice(batches, torch.device("meta")), []

    class Watched:
        def of_steps(self, steps):
            asked.append(steps)
            return batches.of_steps(steps)

    ahead._batches = Watched()
    for step in (0, 1, 63, 64, 3, 130):
        assert ahead.at(step).shape == (8,)
    assert asked == [range(64), range(64, 128), range(64), range(128, 192)]
    on_cpu = BatchesOnDevice(batches, torch.device("cpu"))
    assert torch.equal(on_cpu.at(700), batches.of_steps(range(700, 701))[0])


def test_own_settings_have_reproducible_kernels_of_cudnn():
    before = torch.backends.cudnn.deterministic
    with own_settings(threads=None):
        assert torch.backends.cudnn.enabled
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic == before


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_failed_step_on_the_device_is_told_once(device):
    weights, grad = torch.ones(100, device=device), torch.full((100,), torch.nan, device=device)
    before = weights.clone()
    pt.ops.projected_sgd_step_(weights, grad, 0.1)
    with pytest.raises(ValueError, match="must be finite"):
        pt.ops.raise_failed_steps(device)
    assert torch.equal(weights, before)
    pt.ops.raise_failed_steps(device)
