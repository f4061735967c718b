"""The members of a sweep: one configuration at different learning rates, with different training draws."""

from dataclasses import dataclass, fields
from math import inf
from typing import Any, Self

from pythermo._checks import require_integer, require_number, require_positive

# What distinguishes the members of a sweep, and the key of a run's configuration that says it.
AXES = {
    "lr": "lr",
    "seed": "training.seed",
    "weight_decay": "training.weight_decay",
    "radius": "training.radius",
}


@dataclass(frozen=True, order=True)
class Member:
    """One run of a sweep: the key of its folder, of its results and of its failure.

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
    TypeError, ValueError
        For numbers that no run can have; each is named.

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
        require_positive("lr", self.lr)
        require_integer("seed", self.seed, 0, 2**63 - 1)
        if (
            self.weight_decay is not None
            and not 0.0 <= require_number("weight_decay", self.weight_decay) < inf
        ):
            raise ValueError(f"weight_decay: must be finite and 0 or more, not {self.weight_decay}")
        if self.radius is not None:
            require_positive("radius", self.radius)

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
