"""Runs side by side in groups of 32, as on a device: the emulation's kernels, and a device where there is one."""

import numpy as np
import pytest
import torch
from tiny import TINY

import pythermo as pt
from pythermo import models
from pythermo.training.lane_layout import Batch, Layout, as_samples
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.lanes import LaneNetwork
from pythermo.training.program import read_program
from pythermo.training.trainer import Trainer

FEW = {"training.iterations": 6, "measurement.window": 3, "measurement.gradients": 5}


def members(config, count):
    return [config.at(pt.Member(0.02 + 0.001 * number, number)) for number in range(count)]


def finish(trainer):
    while any(not run.finished and run.failure is None for run in trainer.runs):
        trainer.advance()
    return trainer.runs


@pytest.fixture
def in_groups(emulated, monkeypatch):
    """Let runs on the CPU lie as those on a device do, and be worked on by its kernels."""

    def lay(count):
        groups = -(-count // 32)
        monkeypatch.setattr(Layout, "of_vector", classmethod(lambda cls: cls(32, groups)))

    return lay


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"measurement.full_gradient": "evaluation", "measurement.evaluation_batch": 70},
        {"training.loss": "mse", "training.sampling": "epochs", "training.retraction": "exponential"},
        {"training.protocol": "fixed-lr", "training.weight_decay": 0.1},
        {
            "training.iterations": 4,
            "training.protocol": "fixed-elr",
            "training.weight_decay": 1e-5,
            "training.radius": 1.3,
        },
    ],
    ids=["mean", "evaluation", "mse, epochs, exponential", "fixed LR", "fixed ELR"],
)
def test_what_is_measured_is_what_torch_measures(in_groups, changes):
    """Six steps from one point: rounding grows tenfold every two, and a prediction of 360 may jump."""
    in_groups(2)
    for run in finish(LaneTrainer(members(TINY.changed(**(FEW | changes)), 2))):
        here, there = run.to_dataset(), finish(Trainer(run.config))[0].to_dataset()
        for name in there.data_vars:
            tolerance = 0.02 if "accuracy" in name else 2e-3
            least = 0.02 if name in ("free_energy", "gibbs_energy") else 1e-3  # U less as large a TS
            np.testing.assert_allclose(here[name], there[name], rtol=tolerance, atol=least, err_msg=name)


def test_a_run_depends_on_its_configuration_alone(in_groups):
    """In a group that is full, in one that is not, and alone: the same bits."""
    config = TINY.changed(**(FEW | {"training.iterations": 3, "data.samples_per_class": 4}))
    configs = members(config, 33)
    in_groups(33)
    together = finish(LaneTrainer(configs))
    for number in (0, 30, 31, 32):
        in_groups(1)
        alone = finish(LaneTrainer(configs[number : number + 1]))[0]
        assert torch.equal(alone.weights(), together[number].weights())
        assert alone.to_dataset().identical(together[number].to_dataset())


def test_a_run_that_fails_does_so_at_its_iteration(in_groups):
    """Between two looks at what was refused it is carried along; the others go on."""
    in_groups(2)
    config = TINY.changed(**(FEW | {"training.iterations": 12, "measurement.count": 1}))
    trainer = LaneTrainer(members(config, 2))
    while trainer.runs[0].iteration < 10 or trainer.runs[0].measurement_due:
        trainer.advance()
    trainer.step()
    trainer.set_weights(1, torch.full((trainer.dim,), torch.nan))
    finish(trainer)
    first, second = trainer.runs
    assert first.finished
    assert first.failure is None
    assert second.iteration == 11
    assert "iteration 11: " in str(second.failure)


@pytest.mark.parametrize("count", [1, 31, 33, 64])
def test_networks_have_the_gradients_of_torch(emulated, count):
    """Odd sides, shortcuts, strides, and groups that are not full; float64 in torch."""
    for model, shape in [
        (models.ConvNet(2, in_channels=1), (1, 9, 11)),
        (models.ResNet18(2, in_channels=3), (3, 8, 8)),
    ]:
        torch.manual_seed(count)
        program = read_program(model, shape)
        network = LaneNetwork(program, Layout(32, -(-count // 32)))
        weights = torch.randn(count, program.dim)
        network.weights.set(weights)
        images, labels = torch.randn(40, *shape), torch.randint(10, (40,))
        indices = torch.randint(40, (count, 12))
        batch = Batch.of_members(network.layout, as_samples(images), indices, labels[indices])
        losses = network.losses_and_gradient(batch, squared_error=False).losses
        assert torch.allclose(network.losses(batch, squared_error=False).losses, losses, rtol=1e-6)
        gradients = network.grad.get(count)
        for member in (0, count - 1):
            expected_loss, expected = by_torch(model, weights[member], images, labels, indices[member])
            assert float(losses[member]) == pytest.approx(expected_loss, rel=1e-5)
            apart = (gradients[member].double() - expected).norm() / expected.norm()
            assert apart < 2e-4  # ResNet18's normalization of one or four pixels


def by_torch(model, weights, images, labels, indices):
    twin = model.double().train()
    params = [param for param in twin.parameters() if param.requires_grad]
    torch.nn.utils.vector_to_parameters(weights.double(), params)
    loss = torch.nn.functional.cross_entropy(twin(images[indices].double()), labels[indices])
    gradients = torch.autograd.grad(loss, params)
    model.float()
    return float(loss.detach()), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.cuda
def test_runs_on_a_device_are_those_of_the_cpu():
    """Six steps: rounding grows tenfold every two. Forty runs, two groups, steps in a graph."""
    config = TINY.changed(**FEW)
    there = finish(LaneTrainer(members(config.changed(**{"training.device": "cuda"}), 40)))
    for number in (0, 15, 39):
        here = finish(LaneTrainer(members(config, 40)[number : number + 1]))[0].to_dataset()
        own = there[number].to_dataset()
        for name in ("loss", "test_loss", "mean_grad_norm"):
            np.testing.assert_allclose(own[name], here[name], rtol=5e-3, err_msg=name)


@pytest.mark.cuda
def test_a_run_on_a_device_depends_on_its_configuration_alone():
    configs = members(TINY.changed(**FEW, **{"training.device": "cuda"}), 40)
    together = finish(LaneTrainer(configs))
    for number in (3, 39):
        alone = finish(LaneTrainer([configs[number]]))[0]
        assert torch.equal(alone.weights(), together[number].weights())


@pytest.mark.cuda
def test_a_sweep_on_a_device_goes_on_where_it_was(tmp_path):
    config = TINY.changed(**FEW, **{"training.device": "cuda", "training.engine": "lanes"})
    whole = pt.sweep(config, [0.02, 0.03], tmp_path / "whole", seeds=5)
    pt.sweep(config, [0.02], tmp_path / "parts", seeds=3)
    parts = pt.sweep(config, [0.02, 0.03], tmp_path / "parts", seeds=5)
    assert parts.identical(whole)
    assert parts.attrs["instruction_set"].startswith("CUDA")


@pytest.mark.cuda
def test_an_ensemble_on_a_device():
    torch.manual_seed(0)
    images, labels = torch.randn(34, 16, 1, 8, 8), torch.randint(10, (34, 16))
    model, losses = models.ConvNet(2, in_channels=1), []
    for device in ("cpu", "cuda"):
        ensemble = pt.Ensemble(model, lr=[0.01, 0.02], seeds=17, initial_seed=1, device=device)
        losses.append([ensemble.step(images, labels).cpu() for _ in range(3)])
        assert ensemble.weights.device.type == device
    for here, there in zip(*losses, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="labels: must be from 0 to 9"):
        ensemble.step(images, labels + 1)
