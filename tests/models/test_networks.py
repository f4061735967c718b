import math

import pytest
import torch
from reference import normal
from torch import nn

import pythermo as pt
from pythermo.models.layers import channels_last

# arXiv 2505.23489, appendix: numbers of trained weights with 3 input channels and 10 classes.
PUBLISHED_SIZES = [
    (pt.models.ConvNet, 8, 24_408),
    (pt.models.ConvNet, 64, 1_550_016),
    (pt.models.ConvNet, 96, 3_486_240),
    (pt.models.ResNet18, 4, 43_692),
    (pt.models.ResNet18, 32, 2_790_240),
    (pt.models.ResNet18, 48, 6_277_392),
]
NETWORKS = [pt.models.ConvNet, pt.models.ResNet18]


def size(model: nn.Module) -> int:
    return sum(param.numel() for param in pt.models.trained_parameters(model))


@pytest.mark.parametrize(("network", "width", "published"), PUBLISHED_SIZES)
def test_published_sizes(network, width, published):
    assert size(network(width)) == published


@pytest.mark.parametrize(("width", "expected"), [(2, 1530), (8, 24_264)])
def test_sizes_for_one_channel(width, expected):
    assert size(pt.models.ConvNet(width, in_channels=1)) == expected


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("side", [8, 28, 32])
def test_image_sizes(network, side):
    logits = network(2, in_channels=1, num_classes=7)(normal(5, 1, side, side))
    assert logits.shape == (5, 7)


def test_pooling_of_32_pixels_is_the_published_one():
    model = pt.models.ConvNet(2)
    images = normal(4, 3, 32, 32)
    features = model.features(images)
    assert features.shape == (4, 16, 4, 4)
    expected = model.head(nn.functional.max_pool2d(features, 4).flatten(1))
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("head_norm", [10.0, 1.5])
def test_only_the_head_is_frozen_and_it_has_its_norm(network, head_norm):
    model = network(2, head_norm=head_norm)
    frozen = [name for name, param in model.named_parameters() if not param.requires_grad]
    assert all(name.startswith("head.") for name in frozen)
    assert float(model.head.weight.norm()) == pytest.approx(head_norm, rel=1e-6)
    assert (model.head.bias is None) == (network is pt.models.ResNet18)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("width", [2, 8])
def test_scale_invariance(network, width):
    model = pt.models.initialize_(network(width))
    found = pt.models.check_scale_invariance(model, normal(64, 3, 16, 16))
    assert found.ok, found.reason
    # In float64 what is left is BatchNorm's epsilon, 1e-12 over variances of 1e-4 and more.
    precise = pt.models.check_scale_invariance(model.double(), normal(64, 3, 16, 16, dtype=torch.float64))
    assert max(precise.output_change, precise.radial_gradient) < 1e-6


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_gradients_in_float32_are_those_in_float64(network, width):
    """oneDNN with AVX2 corrupts memory in a strided 1x1 convolution of fewer than 8 channels (issue 6035)."""
    model, images = pt.models.initialize_(network(width)), normal(32, 3, 16, 16)
    params = [param for param in model.parameters() if param.requires_grad]
    narrow = torch.autograd.grad(model(images).square().sum(), params)
    model.double()
    wide = torch.autograd.grad(model(images.double()).square().sum(), params)
    for a, b in zip(narrow, wide, strict=True):
        # Some ten layers of float32; a ReLU at 0 may take the other side.
        assert float((a - b).norm() / b.norm()) < 1e-2


def test_a_network_that_is_not_scale_invariant_is_told():
    affine = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    found = pt.models.check_scale_invariance(affine, normal(64, 3, 8, 8))
    assert not found.ok
    assert "NOT scale-invariant" in found.reason
    convolution = [affine[0].weight, affine[0].bias]
    assert pt.models.check_scale_invariance(affine, normal(64, 3, 8, 8), convolution, tolerance=0.05).ok


def test_the_check_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pt.models.check_scale_invariance(model, normal(16, 1, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(param.grad is None for param in model.parameters())


class Scaled(nn.Linear):
    """Fails when its weights are scaled, and gives outputs that nobody wants."""

    def __init__(self, factor: float) -> None:
        super().__init__(3, 2)
        self.factor = factor
        self.norm = float(self.weight.detach().norm())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if abs(float(self.weight.detach().norm()) / self.norm - 1.0) > 0.1:
            raise FloatingPointError("scaled")
        return self.factor * super().forward(x)


def test_the_check_restores_the_weights_of_a_model_that_fails():
    model = Scaled(1.0)
    before = model.weight.detach().clone()
    with pytest.raises(FloatingPointError):
        pt.models.check_scale_invariance(model, normal(2, 3))
    assert torch.equal(model.weight.detach(), before)


def test_a_change_to_nan_is_not_taken_for_invariance():
    assert not pt.models.ScaleInvariance(math.nan, 0.0, 1e-3).ok
    assert not pt.models.ScaleInvariance(0.0, math.nan, 1e-3).ok


def test_the_check_refuses_what_it_cannot_check():
    with pytest.raises(ValueError, match="no trained weights"):
        pt.models.check_scale_invariance(nn.ReLU(), normal(2, 3))
    with pytest.raises(ValueError, match="must be finite and not all zero"):
        pt.models.check_scale_invariance(Scaled(0.0), normal(2, 3))
    with pytest.raises(ValueError, match="must be finite and not all zero"):
        pt.models.check_scale_invariance(Scaled(math.nan), normal(2, 3))
    with pytest.raises(ValueError, match="factors"):
        pt.models.check_scale_invariance(nn.Linear(3, 2), normal(2, 3), factors=[0.0])


def test_initial_point_and_head_have_seeds_of_their_own():
    def drawn(**seeds):
        model = pt.models.ConvNet(2)
        state = torch.random.get_rng_state()
        pt.models.initialize_(model, radius=2.0, **seeds)
        assert torch.equal(torch.random.get_rng_state(), state)
        return torch.cat(
            [p.detach().flatten() for p in pt.models.trained_parameters(model)]
        ), model.head.weight

    weights, head = drawn(seed=1, head_seed=4)
    assert float(weights.norm()) == pytest.approx(2.0, rel=1e-6)
    assert float(head.norm()) == pytest.approx(10.0, rel=1e-6)
    other_weights, same_head = drawn(seed=2, head_seed=4)
    same_weights, other_head = drawn(seed=1, head_seed=5)
    assert torch.equal(head, same_head)
    assert torch.equal(weights, same_weights)
    assert not torch.equal(weights, other_weights)
    assert not torch.equal(head, other_head)


@pytest.mark.parametrize("network", NETWORKS)
def test_wrong_images_are_named(network):
    with pytest.raises(ValueError, match=r"x: must be images \[N, 3, H, W\].* not \[2, 1, 32, 32\]"):
        network(2)(normal(2, 1, 32, 32))
    with pytest.raises(ValueError, match="at least 8 pixels"):
        network(2)(normal(2, 3, 4, 4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_many_batches_or_members_at_once(network, channels):
    model = network(2, in_channels=channels).double()
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    images = normal(3, 5, channels, 8, 8, seed=1, dtype=torch.float64)
    labels = torch.randint(10, (3, 5), generator=torch.Generator().manual_seed(1))

    def loss(weights, images, labels):
        return nn.functional.cross_entropy(torch.func.functional_call(model, weights, (images,)), labels)

    gradient = torch.func.grad(loss)
    at_once = torch.func.vmap(gradient, (None, 0, 0))(weights, images, labels)
    members = {name: torch.stack([weight, 1.5 * weight, -weight]) for name, weight in weights.items()}
    of_members = torch.func.vmap(gradient, (0, None, None))(members, images[0], labels[0])
    for each in range(3):
        one_by_one = gradient(weights, images[each], labels[each])
        of_member = gradient({name: member[each] for name, member in members.items()}, images[0], labels[0])
        for name in weights:
            # Roundings of gradients through up to twenty layers, of their largest element.
            within = {"rtol": 0, "atol": 1e-11 * float(one_by_one[name].abs().max())}
            torch.testing.assert_close(at_once[name][each], one_by_one[name], **within)
            within["atol"] = 1e-11 * float(of_member[name].abs().max())
            torch.testing.assert_close(of_members[name][each], of_member[name], **within)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("images", [2, 1])
def test_layout_of_images_is_that_of_torch(images, channels):
    plain = normal(images, channels, 8, 9, seed=1)
    for given in (plain, plain.to(memory_format=torch.channels_last), plain.transpose(2, 3)):
        expected, found = given.to(memory_format=torch.channels_last), channels_last(given)
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert found.stride()[1:] == expected.stride()[1:]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"width": 0}, ValueError), ({"width": -1}, ValueError), ({"width": 2.5}, TypeError),
     ({"width": None}, TypeError), ({"in_channels": 0}, ValueError), ({"num_classes": "x"}, TypeError),
     ({"head_norm": 0.0}, ValueError), ({"head_norm": "x"}, TypeError)],
)  # fmt: skip
def test_wrong_sizes_are_named(network, wrong, error):
    (name,) = wrong
    with pytest.raises(error, match=f"^{name}: must be"):
        network(**{"width": 2, **wrong})
