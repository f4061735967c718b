"""The frozen head and the loss of members side by side; see csrc/lanes_head.hpp."""

from torch import Tensor

from pythermo.ops._lanes import call, register

register("lanes_head", "lanes_head_workspace_size")


def head_losses(
    features: Tensor,
    weights: Tensor,
    bias: Tensor,
    labels: Tensor,
    *,
    largest: bool,
    squared_error: bool,
    losses: Tensor,
    hits: Tensor,
    grad: Tensor,
) -> None:
    """Write the mean losses of members, how many of their images they recognize, and the features' gradients.

    On a device features and labels have a first dimension of groups, and losses and hits are all members'.

    Parameters
    ----------
    features : Tensor [N, pixels, F, lanes]
        Pooled over the pixels to their largest or mean.
    weights, bias : Tensor [classes, F], [classes] or [0]
        Of the head that all members share; float32.
    labels : Tensor [N, lanes]
        int64.
    largest, squared_error : bool
        The pooling, or else the mean; the loss, or else cross-entropy.
    losses, hits : Tensor [lanes]
        float64 and int64.
    grad : Tensor [N * pixels * F * lanes] or [0]
        Not written where it is empty.
    """
    call("lanes_head", features, weights, bias, labels, largest, squared_error, losses, hits, grad)
