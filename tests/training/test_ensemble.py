import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import normal
from torch import nn

import pythermo as pt
from pythermo.models.losses import LOSSES
from pythermo.training.program import LayerNotKnownError


def batches(members: int, size: int, *shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(10, (members, size), generator=torch.Generator().manual_seed(seed))
    return normal(members, size, *shape, seed=seed).float(), labels


def points(members: int, dim: int, seed: int = 5) -> torch.Tensor:
    weights = normal(members, dim, seed=seed).float()
    return weights / weights.norm(dim=1, keepdim=True)


def by_torch(model: nn.Module, images, labels, loss: str) -> tuple[float, torch.Tensor]:
    """Return loss and gradient in float64."""
    own = copy.deepcopy(model).double().train()
    value = LOSSES[loss](own(images.double()), labels)
    value.backward()
    grads = [param.grad for param in pt.models.trained_parameters(own)]
    return float(value.detach()), torch.cat([grad.flatten() for grad in grads])


class Deeper(pt.models.ConvNet):
    """A network of a user's own: that of the package with one layer more, a shortcut around it, and average."""

    def __init__(self) -> None:
        super().__init__(2, in_channels=1)
        self.more = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, affine=False), nn.ReLU()
        )

    def forward(self, x):
        x = self.features(x)
        return self.head((x + self.more(x)).mean((2, 3)))


NETWORKS = {
    "ConvNet(1)": (lambda: pt.models.ConvNet(1, in_channels=1), (1, 8, 8)),
    "ConvNet(2)": (lambda: pt.models.ConvNet(2, in_channels=1), (1, 8, 8)),
    "ConvNet(3), odd": (lambda: pt.models.ConvNet(3, in_channels=3), (3, 11, 13)),
    "ConvNet(8)": (lambda: pt.models.ConvNet(8, in_channels=1), (1, 8, 8)),
    "ConvNet(8), 32": (lambda: pt.models.ConvNet(8), (3, 32, 32)),
    "ConvNet(2), 28": (lambda: pt.models.ConvNet(2, in_channels=1), (1, 28, 28)),
    "ResNet18(1)": (lambda: pt.models.ResNet18(1, in_channels=1), (1, 8, 8)),
    "ResNet18(2)": (lambda: pt.models.ResNet18(2), (3, 9, 14)),
    "one's own": (Deeper, (1, 16, 16)),
}


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
@pytest.mark.parametrize("name", NETWORKS)
def test_losses_and_gradients_are_those_of_torch_in_float64(name, loss):
    make, shape = NETWORKS[name]
    model = pt.models.initialize_(make())
    ensemble = pt.Ensemble(model, lr=[0.01, 0.02, 0.03], loss=loss)
    ensemble.load_weights(points(3, ensemble.weights.shape[1]))
    images, labels = batches(3, 9, *shape)
    losses, grads = ensemble.loss_and_gradient(images, labels)
    assert torch.equal(losses, ensemble.loss(images, labels))
    for i in range(3):
        value, grad = by_torch(ensemble.network(i), images[i], labels[i], loss)
        # Sums of hundreds of products in float32 through up to 20 layers: 1e-7 each.
        assert losses[i].item() == pytest.approx(value, rel=1e-5, abs=1e-5)
        assert (grads[i] - grad).norm() <= 1e-5 * grad.norm()


@pytest.mark.parametrize(
    ("options", "optimizer_of"),
    [
        ({}, lambda params, lr: pt.ProjectedSGD(params, lr, radius=2.0)),
        (
            {"retraction": "exponential"},
            lambda params, lr: pt.ProjectedSGD(params, lr, radius=2.0, retraction="exponential"),
        ),
        (
            {"protocol": "fixed-lr", "weight_decay": 0.1},
            lambda params, lr: pt.WeightDecaySGD(params, lr, weight_decay=0.1),
        ),
        (
            {"protocol": "fixed-elr", "weight_decay": 1e-5},  # three steps from a random point are long
            lambda params, lr: pt.WeightDecaySGD(params, lr, weight_decay=1e-5, effective_lr=True),
        ),
    ],
    ids=["projection", "exponential", "fixed LR", "fixed ELR"],
)
def test_steps_follow_the_optimizer(options, optimizer_of):
    model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))
    ensemble = pt.Ensemble(model, lr=[0.01, 0.1], seeds=[3, 7], radius=2.0, **options)
    assert [(member.lr, member.seed) for member in ensemble.members] == [
        (0.01, 3),
        (0.01, 7),
        (0.1, 3),
        (0.1, 7),
    ]
    assert ensemble.lr.tolist() == [0.01, 0.01, 0.1, 0.1]
    networks = [ensemble.network(i) for i in range(4)]
    steps = [
        optimizer_of(pt.models.trained_parameters(net), lr.item())
        for net, lr in zip(networks, ensemble.lr, strict=True)
    ]
    for step in range(3):
        images, labels = batches(4, 16, 1, 8, 8, seed=step)
        losses = ensemble.step(images, labels)
        for i, (net, optimizer) in enumerate(zip(networks, steps, strict=True)):
            optimizer.zero_grad()
            loss = LOSSES["cross-entropy"](net(images[i]), labels[i])
            loss.backward()
            optimizer.step()
            assert losses[i].item() == pytest.approx(loss.item(), rel=1e-4)
    flat = torch.stack(
        [
            torch.cat([param.detach().flatten() for param in pt.models.trained_parameters(net)])
            for net in networks
        ]
    )
    # Three steps of a chaotic map, from roundings of 1e-6 of a gradient.
    assert (ensemble.weights - flat).norm() <= 1e-4 * flat.norm()
    if "protocol" not in options:
        assert ensemble.weights.double().norm(dim=1) == pytest.approx(np.full(4, 2.0), rel=3e-7)


def trajectory(order: list[int], steps: int = 3, threads: int = 1) -> torch.Tensor:
    """Return the weights of members, in this order, after some steps with batches of their own.

    The network's layers are convolved by sums over taps and by both of Winograd's.
    """
    model = pt.models.initialize_(pt.models.ConvNet(4, in_channels=1))
    ensemble = pt.Ensemble(model, lr=[0.01 * (i + 1) for i in order])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for step in range(steps):
            images, labels = batches(33, 6, 1, 8, 8, seed=step)
            ensemble.step(images[order], labels[order])
    finally:
        torch.set_num_threads(before)
    return ensemble.weights


@pytest.mark.parametrize("members", [1, 5, 16])
def test_a_members_bits_do_not_depend_on_the_group(members):
    whole = trajectory(list(range(33)))
    assert torch.equal(trajectory(list(range(members))), whole[:members])
    backwards = list(range(32, -1, -1))
    assert torch.equal(trajectory(backwards), whole[backwards])
    assert torch.equal(trajectory(list(range(33)), threads=2), whole)
    assert len(torch.unique(whole, dim=0)) == 33


def test_weights_that_are_loaded_go_on_to_equal_bits():
    model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))
    whole, first = (pt.Ensemble(model, lr=[0.01, 0.1]) for _ in range(2))
    for step in range(4):
        images, labels = batches(2, 5, 1, 8, 8, seed=step)
        whole.step(images, labels)
        if step == 2:
            second = pt.Ensemble(model, lr=[0.01, 0.1])
            second.load_weights(first.weights.numpy())
            first = second
        first.step(images, labels)
    assert torch.equal(first.weights, whole.weights)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 40), members=st.integers(1, 4), data=st.integers(0, 2**31))
def test_batches_of_any_size_and_order_in_memory(size, members, data):
    model = pt.models.initialize_(pt.models.ConvNet(1, in_channels=2))
    ensemble = pt.Ensemble(model, lr=[0.01] * 1, seeds=members)
    images, labels = batches(members, size, 2, 8, 8, seed=data)
    turned = images.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    expected = ensemble.loss(images, labels)
    assert torch.equal(ensemble.loss(turned, labels.T.contiguous().T), expected)
    assert torch.equal(ensemble.loss(images.numpy(), labels.numpy()), expected)
    for i in range(members):
        value, _ = by_torch(ensemble.network(i), images[i], labels[i], "cross-entropy")
        if size > 2:  # of one image and pixel a normalization leaves only its rounding
            assert expected[i].item() == pytest.approx(value, rel=1e-4, abs=1e-4)


def test_all_start_from_one_point():
    model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1), seed=3, head_seed=8, radius=5.0)
    own = torch.cat([param.detach().flatten() for param in pt.models.trained_parameters(model)])
    ensemble = pt.Ensemble(model, lr=0.1, seeds=2)
    assert torch.allclose(ensemble.weights, (own / 5.0).expand(2, -1), rtol=1e-6)
    drawn = pt.Ensemble(model, lr=0.1, initial_seed=1)
    other = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1), seed=1)
    expected = torch.cat([param.detach().flatten() for param in pt.models.trained_parameters(other)])
    assert torch.equal(drawn.weights[0], expected)
    assert torch.equal(drawn.network(0).head.weight, model.head.weight)
    assert torch.equal(own, torch.cat([p.detach().flatten() for p in pt.models.trained_parameters(model)]))


def test_a_member_that_fails_is_named_and_stays():
    model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))
    ensemble, other = (pt.Ensemble(model, lr=[0.01, 0.1], seeds=2) for _ in range(2))
    images, labels = batches(4, 5, 1, 8, 8)
    other.step(images, labels)
    before = ensemble.weights
    images[2, 0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"1 of 4 members were not moved: lr 0.1, seed 0: grad: .*finite"):
        ensemble.step(images, labels)
    assert torch.equal(ensemble.weights[2], before[2])
    assert torch.equal(ensemble.weights[[0, 1, 3]], other.weights[[0, 1, 3]])


def test_a_network_of_other_layers_is_refused_by_name():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.GroupNorm(2, 4), nn.ReLU())
    with pytest.raises(LayerNotKnownError, match="GroupNorm '1' is not among the layers"):
        pt.Ensemble(model, lr=0.1).step(*batches(1, 4, 1, 8, 8))


PLAIN = pt.models.ConvNet(1, in_channels=1)
IMAGES, LABELS = batches(2, 4, 1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "x"}, TypeError, "model: must be a torch.nn.Module"),
        ({"model": copy.deepcopy(PLAIN).requires_grad_(False)}, ValueError, "model: has no trained weights"),
        ({"model": copy.deepcopy(PLAIN).double()}, TypeError, "model: must be float32 on the CPU"),
        ({"lr": []}, ValueError, "lr: must be one learning rate or a list"),
        ({"lr": "x"}, TypeError, "lr: must be learning rates"),
        ({"lr": -1.0}, ValueError, "lr: must be positive"),
        ({"lr": [[0.1]]}, ValueError, "lr: must be one learning rate or a list"),
        ({"seeds": 0}, ValueError, "seeds: must be an integer from 1"),
        ({"seeds": [1, 1]}, ValueError, "seeds: at least one is needed"),
        ({"seeds": "x"}, TypeError, "seeds: must be numbers"),
        ({"radius": 0.0}, ValueError, "radius: must be positive"),
        ({"initial_seed": -1}, ValueError, "initial_seed: must be an integer"),
        ({"device": "tpu"}, ValueError, "device: must be cpu, cuda or cuda:N"),
        ({"loss": "x"}, ValueError, "loss: must be one of"),
        ({"retraction": "x"}, ValueError, "retraction: must be one of"),
        ({"protocol": "x"}, ValueError, "protocol: must be one of"),
        ({"protocol": "fixed-lr"}, ValueError, "weight_decay: must be positive at the protocol fixed-lr"),
        ({"weight_decay": 0.1}, ValueError, "weight_decay: has no effect on the sphere"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay: must be"),
        (
            {"protocol": "fixed-elr", "weight_decay": 0.1, "retraction": "projection"},
            ValueError,
            "retraction: must be left out at the protocol fixed-elr",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        pt.Ensemble(**{"model": PLAIN, "lr": 0.1, **arguments})


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:1], LABELS[:1], r"images: must be float32 of the shape \[2, B, C, H, W\]"),
        (IMAGES.double(), LABELS, "images: must be float32"),
        (IMAGES[0], LABELS, "images: must be float32"),
        (IMAGES, LABELS[:, :3], "labels: must be int64"),
        (IMAGES, LABELS.int(), "labels: must be int64"),
        (IMAGES[:, :0], LABELS[:, :0], "labels: must be int64 .* B >= 1"),
        (IMAGES, LABELS + 10, "labels: must be from 0"),
        (IMAGES[..., :4], LABELS, "model: ConvNet cannot be read"),
        ("x", LABELS, "images: must be a torch tensor"),
    ],
)
def test_wrong_batches_are_named(images, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pt.Ensemble(PLAIN, lr=0.1, seeds=2).step(images, labels)


def test_images_of_another_shape_than_before_are_refused():
    ensemble = pt.Ensemble(PLAIN, lr=0.1, seeds=2)
    ensemble.step(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"images: those before had the shape \[1, 8, 8\]"):
        ensemble.step(*batches(2, 4, 1, 9, 8))
    for weights in (torch.zeros_like(ensemble.weights), ensemble.weights[:1], ensemble.weights.double()):
        with pytest.raises(ValueError, match="weights: must be"):
            ensemble.load_weights(weights)
    with pytest.raises(ValueError, match="member: must be an integer from 0 to 1"):
        ensemble.network(2)
