"""Samples that members side by side take batches of, and sums over what they gave."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pythermo._checks import Floats
from pythermo.estimators.gradient_noise import GradientNoise, noise_about, noise_about_mean
from pythermo.training.lane_layout import Batch, Layout, as_samples
from pythermo.training.lanes import Pass
from pythermo.training.measure import Evaluation


class Samples:
    """Images, standardized once, and their labels, of which members take batches."""

    def __init__(self, images: Tensor, labels: Tensor, layout: Layout) -> None:
        self._layout = layout
        self._samples, self._labels = as_samples(images).to(layout.device), labels.to(layout.device)

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Tensor) -> Batch:
        """Return the batch of indices [members, size]; of one member, it is all members'."""
        return Batch.of_members(self._layout, self._samples, indices, self._labels[indices])

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all images in batches, the same for all members."""
        for part in torch.arange(len(self), device=self._layout.device).split(size):
            yield self.batch(part[None])


class Evaluations:
    """Losses and right answers of the members, summed over batches."""

    def __init__(self, layout: Layout) -> None:
        self._images = 0
        self._losses = layout.flat(dtype=torch.float64).zero_()
        self._hits = layout.flat(dtype=torch.int64).zero_()

    def add(self, found: Pass, images: int) -> None:
        """Add the means over a batch of so many images."""
        self._images += images
        self._losses += images * found.losses
        self._hits += found.hits

    def means(self) -> list[Evaluation]:
        """Return each member's means over all images."""
        losses, hits = (self._losses / self._images).tolist(), (self._hits / self._images).tolist()
        return [Evaluation(loss, accuracy) for loss, accuracy in zip(losses, hits, strict=True)]


@dataclass(frozen=True)
class GradientSums:
    """What the noise of each member's gradients is computed from.

    |g_i|^2 and |g_i - G|^2 of a full gradient G that is known, and |G|^2; or, where it is not, |g_i|^2, the
    squared norm of their sum, and ``again`` |g_i - mean|^2.
    """

    sums: Floats  # [m, 2, members]
    squared: Floats  # [members]
    again: Floats | None  # [m, 2, members]

    def noise(self, lane: int) -> GradientNoise:
        """Return the noise of one lane's gradients; ValueError if they are not finite."""
        sums, squared = self.sums[:, :, lane], float(self.squared[lane])
        if self.again is None:
            return noise_about(sums, squared)
        return noise_about_mean(sums, squared, self.again[:, :, lane])


def stacked(sums: Iterable[Tensor]) -> Floats:
    """Return sums [..., 2, lanes] of several gradients as [gradients, 2, members]."""
    each = torch.stack(list(sums))
    stacked: Floats = each.movedim(-2, 1).flatten(2).cpu().numpy()
    return stacked


def squared_norms(gradients: Tensor) -> Floats:
    """Return the squared norm of each member's gradient [..., D, lanes]."""
    norms: Floats = gradients.square().sum(dim=-2).flatten().cpu().numpy()
    return norms
