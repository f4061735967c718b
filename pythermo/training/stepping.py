"""What steps the weights that a thermometer watches: their learning rate, and whether it is plain SGD."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pythermo._checks import require_not_negative, require_positive
from pythermo.optim import ProjectedSGD, WeightDecaySGD


class Stepping:
    """An optimizer that steps some weights, among others perhaps, or a learning rate in its place.

    Parameters
    ----------
    params : list of Tensor
        The weights.
    optimizer : torch.optim.Optimizer, optional
        What steps them; it is asked anew each time, so that schedules and loaded states are followed.
    lr : float, optional
        Their learning rate, where there is no optimizer.

    Raises
    ------
    ValueError, TypeError
        For neither or both of ``optimizer`` and ``lr``, and for an optimizer that does not step all of them
        or with several learning rates.
    """

    def __init__(self, params: list[Tensor], optimizer: Any, lr: float | None) -> None:
        if (optimizer is None) == (lr is None):
            raise ValueError("optimizer, lr: one of them must say the learning rate, and not both")
        self._params = params
        self._optimizer: Optimizer | None = optimizer
        self._fixed = None if lr is None else require_positive("lr", lr)
        if optimizer is not None:
            self._require_steps()
        self.rate()

    def _require_steps(self) -> None:
        if not isinstance(self._optimizer, Optimizer):
            raise TypeError(
                f"optimizer: must be a torch.optim.Optimizer, not {type(self._optimizer).__name__}"
            )
        held = {id(one) for group in self._optimizer.param_groups for one in group["params"]}
        lacking = sum(id(one) not in held for one in self._params)
        if lacking:
            raise ValueError(
                f"optimizer: does not step {lacking} of the {len(self._params)} tensors of params"
            )

    def rate(self) -> float:
        """Return the learning rate of the weights.

        Raises
        ------
        ValueError
            For several of them, and one that is negative.
        """
        if self._fixed is not None:
            return self._fixed
        rates = {float(group["lr"]) for group in self._groups()}
        if len(rates) > 1:
            raise ValueError(f"optimizer: params have several learning rates, {sorted(rates)}; one is needed")
        return require_not_negative("optimizer: its learning rate", rates.pop())  # a warm-up begins at 0

    @property
    def rate_is_effective(self) -> bool:
        """Whether the learning rate is that on the unit sphere."""
        return isinstance(self._optimizer, WeightDecaySGD) and any(
            group["effective_lr"] for group in self._groups()
        )

    @property
    def other_than_sgd(self) -> str:
        """What the optimizer has that plain SGD has not; an empty text of plain SGD."""
        if self._optimizer is None or isinstance(self._optimizer, (ProjectedSGD, WeightDecaySGD)):
            return ""
        if not isinstance(self._optimizer, torch.optim.SGD):
            return f"what {type(self._optimizer).__name__} does to gradients"
        return "momentum" if any(group["momentum"] for group in self._groups()) else ""

    def _groups(self) -> list[dict[str, Any]]:
        """Return the groups of the weights; new ones take their place when an optimizer's state is loaded."""
        assert self._optimizer is not None
        own = {id(one) for one in self._params}
        groups = self._optimizer.param_groups
        return [group for group in groups if any(id(one) in own for one in group["params"])]
