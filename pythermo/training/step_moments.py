"""Moments of norms and gradients over the steps of a run, each of which is taken note of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pythermo._checks import Floats
from pythermo._parameters import flatten
from pythermo.sphere.protocols import Protocol

# Steps between two times that what was noted is brought together, for which a device is waited for.
_NOTED = 256


def products(params: Sequence[nn.Parameter]) -> Tensor:
    """Return ``|w|**2``, ``|g|**2`` and ``<w, g>`` of parameters and their gradients, [3] in float64."""
    grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in params]
    weights, grad = flatten(params).double(), flatten(grads).double()
    return torch.stack([(weights * weights).sum(), (grad * grad).sum(), (weights * grad).sum()])


class StepNotes:
    """The products of weights and gradients of the latest steps, kept where they are computed.

    Parameters
    ----------
    size : int
        How many numbers the products of one step are.
    device : torch.device
        Where they are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._notes = torch.zeros(_NOTED, size, dtype=torch.float64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)  # a graph that is replayed counts on
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether no step more can be noted."""
        return self._count == len(self._notes)

    def note(self, found: Tensor) -> None:
        """Note the products of a step; nothing waits for the device. A graph may capture this."""
        self._notes.index_copy_(0, self._place, found[None])
        self._place += 1

    def count(self) -> None:
        """Count a step that was noted."""
        self._count += 1

    def start_over(self) -> None:
        """Forget what was noted."""
        self._place.zero_()
        self._count = 0

    def take(self) -> Floats:
        """Return what was noted, [steps, size], and start over."""
        noted: Floats = self._notes[: self._count].cpu().numpy().copy()
        self.start_over()
        return noted


@dataclass(frozen=True)
class StepMoments:
    """Means over the steps between two measurements; NaN where there were none.

    With the norm r and the gradient g before a step. A = ``r**2 |g|**2`` is the squared gradient on the unit
    sphere.

    Attributes
    ----------
    r2, r4, r6 : float
        Of ``r**2``, ``r**4``, ``r**6`` (weight units to that power).
    g2, r2_g2, r4_g2 : float
        Of ``|g|**2``, A and ``r**2 A``.
    w_g : float
        Of ``<w, g>``, which is 0 for a scale-invariant loss (loss units).
    next_r2 : float
        Of the squared norm after a step, before any retraction.
    """

    r2: float
    r4: float
    r6: float
    g2: float
    r2_g2: float
    r4_g2: float
    w_g: float
    next_r2: float


class StepSums:
    """The sums from which the moments of steps come, in the order of the steps: always the same bits."""

    def __init__(self, protocol: Protocol, lr: float, weight_decay: float) -> None:
        self._protocol, self._lr, self._weight_decay = protocol, lr, weight_decay
        self._sums, self._steps = np.zeros(len(StepMoments.__dataclass_fields__)), 0

    def add(self, noted: Floats) -> None:
        """Add the products of steps [steps, 3]."""
        r2, g2, w_g = noted.T
        eta = self._protocol.step_size(self._lr, np.sqrt(r2))
        kept = 1.0 - eta * self._weight_decay
        next_r2 = kept**2 * r2 - 2.0 * kept * eta * w_g + eta**2 * g2
        each = np.stack([r2, r2**2, r2**3, g2, r2 * g2, r2**2 * g2, w_g, next_r2], axis=1)
        self._sums = np.concatenate([self._sums[None], each]).cumsum(axis=0)[-1]
        self._steps += len(noted)

    def take(self) -> StepMoments:
        """Return the moments of the steps that were added, and start over."""
        means = self._sums / self._steps if self._steps else np.full_like(self._sums, np.nan)
        self._sums, self._steps = np.zeros_like(self._sums), 0
        return StepMoments(*means.tolist())

    def state(self) -> dict[str, Any]:
        """Return what it needs to be taken up again."""
        return {"sums": self._sums.tolist(), "steps": self._steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._sums, self._steps = np.array(state["sums"]), state["steps"]
