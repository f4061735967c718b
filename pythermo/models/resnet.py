"""The pre-activation residual network of the paper."""

from typing import cast

from torch import Tensor, nn

from pythermo._checks import require_integer
from pythermo.models.layers import FrozenHead, NormReLU, batch_norm, channels_last, conv3x3, require_images


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution of every ``stride``-th pixel, which is cut out here.

    oneDNN 3.12 (torch 2.13) on processors with AVX2 writes past its memory in the backward pass of a strided
    1x1 convolution of fewer than 8 channels, and gives wrong gradients (oneDNN issue 6035).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__(before, after, 1, bias=False)
        self._every = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self._every, :: self._every])


class _Block(nn.Module):
    """Two pre-activated 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.activate = NormReLU(before)
        self.residual = nn.Sequential(conv3x3(before, after, stride), NormReLU(after), conv3x3(after, after))
        self.shortcut: nn.Module | None = None
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(batch_norm(before), _Pointwise(before, after, stride))

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        beside = x if self.shortcut is None else self.shortcut(activated)
        return cast(Tensor, self.residual(activated) + beside)


class ResNet18(nn.Module):
    """Pre-activation ResNet-18 for small images: stages of two blocks at widths k, 2k, 4k, 8k.

    Normalization has no trained parameters; where a block changes the shape its shortcut is BatchNorm
    and a 1x1 convolution of the pre-activated input. Every trained weight is scale-invariant, all of
    them together.

    Parameters
    ----------
    width : int
        Channels k of the first stage.
    in_channels : int
        Channels of the images; sides of 8 pixels and more will do.
    num_classes : int
        Number of classes.
    head_norm : float
        Frobenius norm of the head's weight matrix; the head has no bias.

    Raises
    ------
    ValueError, TypeError
        For numbers that are not positive integers, or a norm that is not positive.

    Notes
    -----
    D = 43 692, 2 790 240 and 6 277 392 trained weights at width 4, 32 and 48 with 3 channels. Source:
    arXiv 2505.23489.
    """

    def __init__(
        self, width: int, in_channels: int = 3, num_classes: int = 10, head_norm: float = 10.0
    ) -> None:
        super().__init__()
        width = require_integer("width", width, 1)
        self.in_channels = in_channels = require_integer("in_channels", in_channels, 1)
        num_classes = require_integer("num_classes", num_classes, 1)
        layers: list[nn.Module] = [conv3x3(in_channels, width)]
        before = width
        for after, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            layers += [_Block(before, after, stride), _Block(after, after, 1)]
            before = after
        self.features = nn.Sequential(*layers, NormReLU(before))
        self.head = FrozenHead(before, num_classes, head_norm, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, H, W]."""
        require_images(x, self.in_channels, least_side=8)
        x = channels_last(x)  # faster convolutions, the same function
        return cast(Tensor, self.head(self.features(x).mean(dim=(2, 3))))
