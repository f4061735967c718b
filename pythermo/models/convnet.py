"""The plain convolutional network of the paper."""

from typing import cast

from torch import Tensor, nn

from pythermo._checks import require_integer
from pythermo.models.layers import FrozenHead, NormReLU, channels_last, conv3x3, require_images


class ConvNet(nn.Module):
    """Four 3x3 convolutions of widths c, 2c, 4c, 8c, each with BatchNorm and ReLU, and a frozen head.

    The 2nd, 3rd and 4th have 2x2 max pooling. What is left (4x4 pixels of a 32x32 image) is pooled by its
    maximum. Every trained weight is scale-invariant, all of them together.

    Parameters
    ----------
    width : int
        Channels c of the first convolution.
    in_channels : int
        Channels of the images; sides of 8 pixels and more will do.
    num_classes : int
        Number of classes.
    head_norm : float
        Frobenius norm of the head's weight matrix: 10 for cross-entropy, 1.5 for squared errors.

    Raises
    ------
    ValueError, TypeError
        For numbers that are not positive integers, or a norm that is not positive.

    Notes
    -----
    D = 24 408, 1 550 016 and 3 486 240 trained weights at width 8, 64 and 96 with 3 channels. Source:
    arXiv 2505.23489.
    """

    def __init__(
        self, width: int, in_channels: int = 3, num_classes: int = 10, head_norm: float = 10.0
    ) -> None:
        super().__init__()
        width = require_integer("width", width, 1)
        self.in_channels = in_channels = require_integer("in_channels", in_channels, 1)
        num_classes = require_integer("num_classes", num_classes, 1)
        layers: list[nn.Module] = []
        before = in_channels
        for depth, after in enumerate((width, 2 * width, 4 * width, 8 * width)):
            layers += [conv3x3(before, after), NormReLU(after, pool=1 if depth == 0 else 2)]
            before = after
        self.features = nn.Sequential(*layers)
        self.head = FrozenHead(before, num_classes, head_norm, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, H, W]."""
        require_images(x, self.in_channels, least_side=8)
        x = channels_last(x)  # faster convolutions, the same function
        return cast(Tensor, self.head(self.features(x).amax(dim=(2, 3))))
