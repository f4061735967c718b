import pytest
import torch
from torch import nn

import pythermo as pt
from pythermo.training.program import BatchNorm, Convolution, LayerNotKnownError, Sum, read_program


def norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def conv(before: int, after: int, size: int = 3, **options) -> nn.Module:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False, **options)


def own(*layers: nn.Module, features: int = 4) -> nn.Module:
    """Return a network with some layers between a convolution and a head."""
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), frozen(nn.Linear(features, 10)))
    return nn.Sequential(conv(1, 4), *layers, *pooled)


def test_the_plain_network():
    program = read_program(pt.models.ConvNet(2, in_channels=1).train(), (1, 8, 8))
    kinds = [type(layer) for layer in program.layers]
    assert kinds == [Convolution, BatchNorm] * 4
    assert [layer.pool for layer in program.layers[1::2]] == [1, 2, 2, 2]
    assert all(layer.rectify for layer in program.layers[1::2])
    assert program.dim == 1530
    assert program.shapes[-1] == (16, 1, 1)
    assert program.head.largest


def test_the_residual_network():
    program = read_program(pt.models.ResNet18(2).train(), (3, 9, 10))
    assert sum(isinstance(layer, Convolution) for layer in program.layers) == 20
    assert sum(isinstance(layer, Sum) for layer in program.layers) == 8
    pointwise = [one for one in program.layers if isinstance(one, Convolution) and one.padding == 0]
    assert [one.stride for one in pointwise] == [2, 2, 2]
    assert not program.head.largest


@pytest.mark.parametrize(
    ("layers", "pool", "rectify"),
    [
        ((norm(4),), 1, False),
        ((norm(4), nn.ReLU()), 1, True),
        ((norm(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)), 2, True),
        ((norm(4), nn.MaxPool2d(2, stride=2), nn.ReLU()), 2, True),
        ((nn.BatchNorm2d(4, affine=False), nn.MaxPool2d(2)), 2, False),
    ],
)
def test_what_comes_behind_a_normalization_is_a_part_of_it(layers, pool, rectify):
    program = read_program(own(*layers).train(), (1, 8, 8))
    assert len(program.layers) == 2
    assert isinstance(program.layers[1], BatchNorm)
    assert (program.layers[1].pool, program.layers[1].rectify) == (pool, rectify)


class Twice(nn.Module):
    """Uses what a normalization gives before and after ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = conv(1, 4), norm(4), frozen(nn.Linear(4, 2))

    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.head((x.relu() + x).amax((2, 3)))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (own(nn.GroupNorm(2, 4), nn.ReLU()), "GroupNorm '1'"),
        (own(nn.ReLU()), "ReLU '1'.* must come behind a normalization"),
        (own(norm(4), nn.GELU()), "GELU '2'"),
        (own(norm(4), nn.MaxPool2d(3)), "MaxPool2d '2'.* only pooling of 2x2"),
        (own(norm(4), nn.MaxPool2d(2, padding=1)), "MaxPool2d '2'"),
        (own(norm(4), nn.MaxPool2d(2), nn.MaxPool2d(2)), "MaxPool2d '3'"),
        (own(norm(4), nn.Dropout()), "Dropout '2'"),
        (own(nn.BatchNorm2d(4)), "BatchNorm2d '1'.* without affine parameters"),
        (own(norm(4), nn.Conv2d(4, 4, 3), norm(4)), "Conv2d '2'.* without bias"),
        (own(norm(4), conv(4, 4, 5), norm(4)), "Conv2d '2'.* 1x1 and 3x3"),
        (own(norm(4), conv(4, 4, groups=2), norm(4)), "Conv2d '2'.* no groups"),
        (own(norm(4), conv(4, 4, stride=3), norm(4)), "Conv2d '2'.* strides of 1 and 2"),
        (own(norm(4), conv(4, 4, dilation=2), norm(4)), "Conv2d '2'"),
        (
            own(norm(4), frozen(conv(4, 4)), norm(4)),
            r"Conv2d '2'.* 2\.weight are not trained|Conv2d '2'.*p_2_weight",
        ),
        (
            nn.Sequential(conv(1, 4), norm(4), nn.Flatten(), frozen(nn.Linear(256, 10))),
            "Flatten '2'.* pooled first",
        ),
        (
            nn.Sequential(conv(1, 4), norm(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
            "must be frozen",
        ),
        (nn.Sequential(conv(1, 4), norm(4)), "must end with a frozen linear layer"),
        (Twice(), "operation relu.* whose only user it is"),
    ],
    ids=lambda value: value[:14] if isinstance(value, str) else "",
)
def test_a_layer_that_is_not_known_is_named(model, named):
    with pytest.raises(LayerNotKnownError, match=f"^model: .*({named})"):
        read_program(model.train(), (1, 8, 8))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = conv(1, 4), norm(4), frozen(nn.Linear(4, 2))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).amax((2, 3)))


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_trained_parameter_that_is_no_convolutions_is_named():
    with pytest.raises(LayerNotKnownError, match="model: scale is trained"):
        read_program(Unused().train(), (1, 8, 8))


def test_a_network_that_cannot_be_exported_is_named():
    with pytest.raises(LayerNotKnownError, match="model: Branches cannot be read"):
        read_program(Branches().train(), (1, 8, 8))
