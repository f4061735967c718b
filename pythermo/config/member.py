"""The members of a sweep: one configuration at different learning rates, with different training draws."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from pythermo._checks import (
    require_integer,
    require_not_negative,
    require_positive,
    require_several,
)

_MOST_SEEDS = 10**6

# What distinguishes the members of a sweep, and the key of a run's configuration that says it.
AXES = {
    "lr": "lr",
    "seed": "training.seed",
    "weight_decay": "training.weight_decay",
    "radius": "training.radius",
}


def shared_keys(axes: Iterable[str]) -> list[str]:
    """Return the keys of which what the members of a sweep share says nothing.

    It keeps a weight decay, without which there is no valid configuration in full space.
    """
    return [AXES[axis] for axis in axes if axis != "weight_decay"]


@dataclass(frozen=True)
class Member:
    """One run of a sweep: the key of its folder, of its results and of its failure.

    Members have an order: by learning rate, then by seed.

    Attributes
    ----------
    lr : float
        Learning rate.
    seed : int
        Seed of the training draws; the initial point and the head are common to a sweep.
    weight_decay, radius : float, optional
        Where a sweep goes over them too; None where the configuration says them for all members.

    Raises
    ------
    ValueError, TypeError
        For a learning rate or a radius that is not positive, a seed that is no integer from 0 to 2^63 - 1, a
        weight decay that is negative.

    Examples
    --------
    >>> Member(0.01, seed=3)
    Member(lr=0.01, seed=3, weight_decay=None, radius=None)
    >>> str(Member(0.01, seed=3)), Member(0.01, seed=3).folder
    ('lr 0.01, seed 3', 'lr_0.01_seed_3')
    """

    lr: float
    seed: int
    weight_decay: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        kept = {
            "lr": require_positive("lr", self.lr),
            "seed": require_integer("seed", self.seed, 0, 2**63 - 1),
        }
        if self.weight_decay is not None:
            kept["weight_decay"] = require_not_negative("weight_decay", self.weight_decay)
        if self.radius is not None:
            kept["radius"] = require_positive("radius", self.radius)
        for axis, value in kept.items():
            object.__setattr__(self, axis, value)

    def __lt__(self, other: Self) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[float, ...]:
        values = (getattr(self, axis.name) for axis in fields(self))
        return tuple(-math.inf if value is None else value for value in values)

    @property
    def coordinates(self) -> dict[str, float]:
        """The axes that are given, in the order of a result's dimensions."""
        given = {axis.name: getattr(self, axis.name) for axis in fields(self)}
        return {axis: value for axis, value in given.items() if value is not None}

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes in the configuration of its sweep, by dotted keys."""
        return {AXES[axis]: value for axis, value in self.coordinates.items()}

    @property
    def folder(self) -> str:
        """The name of its folder; the numbers are written so that they are read back to the bit."""
        return "_".join(f"{axis}_{value!r}" for axis, value in self.coordinates.items())

    @classmethod
    def of_folder(cls, name: str) -> Self | None:
        """Return the member whose folder has this name, None for a name that is no member's."""
        words = name.replace("weight_decay", "weight-decay").split("_")
        axes = [word.replace("-", "_") for word in words[::2]]
        try:
            numbers = [
                int(one) if axis == "seed" else float(one)
                for axis, one in zip(axes, words[1::2], strict=True)
            ]
            member = cls(**dict(zip(axes, numbers, strict=True)))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return member if member.folder == name else None

    def __str__(self) -> str:
        return ", ".join(f"{axis.replace('_', ' ')} {value:.6g}" for axis, value in self.coordinates.items())


def chosen_seeds(seeds: int | Iterable[int], first: int = 0) -> list[int]:
    """Return seeds that are given by how many, from the first on, or which; or raise naming them."""
    if not isinstance(seeds, Iterable):
        count = require_integer("seeds", seeds, 1, _MOST_SEEDS)
        seeds = range(first, first + count)
    chosen = [require_integer("seeds", seed, 0, 2**63 - 1) for seed in require_several("seeds", seeds)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError("seeds: at least one is needed, and none may repeat")
    return chosen
