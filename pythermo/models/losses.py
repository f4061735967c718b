"""Losses of logits and labels, by their names in configurations."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def squared_error(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Return squared errors of one-hot targets, summed over classes; their mean or sum over samples.

    Parameters
    ----------
    logits : Tensor [N, classes]
        Outputs of a network.
    labels : Tensor [N]
        int64.
    reduction : {"mean", "sum"}
        Over the samples.

    Notes
    -----
    Goes with a head of norm 1.5. Source: arXiv 2505.23489.
    """
    targets = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    total = nn.functional.mse_loss(logits, targets, reduction="sum")
    return total / len(labels) if reduction == "mean" else total


# Of logits [N, classes], labels [N] and reduction="mean" or "sum" over the samples.
Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {"cross-entropy": nn.functional.cross_entropy, "mse": squared_error}

# Norms of the frozen head that go with them; arXiv 2505.23489.
HEAD_NORMS = {"cross-entropy": 10.0, "mse": 1.5}


def constant_prediction_loss(name: str, labels: Tensor) -> float:
    """Return the least mean loss that outputs which do not depend on the images can have."""
    shares = torch.bincount(labels).double() / len(labels)
    shares = shares[shares > 0]
    if name == "mse":
        return float((shares * (1.0 - shares)).sum())
    return float(-(shares * shares.log()).sum())
