"""Arguments of the simulator and their checks."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pythermo._checks import as_floats, as_numbers, require_integer, require_not_negative, require_one_of
from pythermo.ops._devices import free_memory
from pythermo.sphere.protocols import PROTOCOLS, ProtocolName
from pythermo.sphere.systems import IsotropicNoise, System

Retraction = Literal["projection", "exponential"]
Sampling = Literal["iid", "epochs"]
DType = Literal["float64", "float32"]
Array = NDArray[Any]

AT_STEPS = ("loss", "full_grad_norm", "mean_grad_norm", "snr", "weights")
IN_WINDOW = ("window_loss", "trajectory")
RECORDED = (*AT_STEPS, *IN_WINDOW)


@dataclass(frozen=True)
class Settings:
    """What stays the same when a simulation goes on; the attributes of its Dataset."""

    batch_size: int
    seed: int
    retraction: Retraction
    protocol: ProtocolName
    weight_decay: float
    sampling: Sampling
    dtype: DType

    def __post_init__(self) -> None:
        for name, plain in (
            ("batch_size", require_integer("batch_size", self.batch_size, 1, 2**15)),
            ("seed", require_integer("seed", self.seed, 0, 2**63 - 1)),
            ("weight_decay", require_not_negative("weight_decay", self.weight_decay)),
        ):
            object.__setattr__(self, name, plain)
        for name, allowed in (
            ("retraction", Retraction),
            ("protocol", ProtocolName),
            ("sampling", Sampling),
            ("dtype", DType),
        ):
            require_one_of(name, getattr(self, name), get_args(allowed))
        in_full_space = PROTOCOLS[self.protocol].in_full_space
        if not in_full_space and self.weight_decay != 0.0:
            others = " and ".join(name for name, one in PROTOCOLS.items() if one.in_full_space)
            raise ValueError(
                f"weight_decay: must be 0 on the sphere, where it has no effect, not {self.weight_decay}; "
                f"the protocols {others} have one"
            )
        if in_full_space and self.retraction != "projection":
            raise ValueError(f"retraction: {self.retraction} is for the sphere; {self.protocol} has none")

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> "Settings":
        """Return the settings that a Dataset carries as attributes, which a file may have changed in type."""
        kinds = {"batch_size": int, "seed": int, "weight_decay": float}
        return cls(**{name: kinds.get(name, str)(attributes[name]) for name in cls.__dataclass_fields__})

    def check_system(self, system: System) -> None:
        """Raise if the system cannot be simulated so."""
        if isinstance(system, IsotropicNoise):
            if self.batch_size != 1 or self.sampling != "iid":
                raise ValueError("batch_size, sampling: isotropic noise has no samples to make batches of")
        elif self.sampling == "epochs" and self.batch_size > len(system.vectors):
            raise ValueError(
                f"batch_size: {self.batch_size} is more than the {len(system.vectors)} samples, "
                "which are drawn without replacement"
            )


@dataclass(frozen=True)
class Plan:
    """What one call runs and records: steps from ``first`` to ``last``, which may go on from earlier ones."""

    first: int
    last: int
    measure_at: Array
    window: int
    stride: int
    record: tuple[str, ...]
    threads: int

    @classmethod
    def checked(
        cls,
        first: int,
        steps: int,
        measure_at: ArrayLike | None,
        window: int,
        stride: int,
        record: Collection[str],
        threads: int | None,
    ) -> "Plan":
        """Return the plan that a user asks for, or raise naming the argument that is wrong."""
        steps = require_integer("steps", steps, 1, 2**48)
        samples, spacing = require_integer("window", window, 0), require_integer("stride", stride, 1)
        if samples * spacing > steps:
            raise ValueError(
                f"window: {samples} samples every {spacing} steps are more than the {steps} steps of the run"
            )
        if isinstance(record, str) or not isinstance(record, Collection):
            raise TypeError(f"record: must be a collection of names, not {record!r}")
        for name in record:
            require_one_of("record", name, RECORDED)
        return cls(
            first=first,
            last=first + steps,
            measure_at=measured_steps(measure_at, first, first + steps),
            window=samples,
            stride=spacing,
            record=tuple(name for name in RECORDED if name in record and (samples or name not in IN_WINDOW)),
            threads=_cores() if threads is None else require_integer("threads", threads, 1, 4096),
        )


def learning_rates(lr: ArrayLike, dtype: str) -> Array:
    """Return learning rates [lr] in float64, all of them positive in the chains' dtype."""
    rates = np.atleast_1d(as_floats("lr", lr))
    if rates.ndim != 1 or len(rates) == 0:
        raise ValueError(f"lr: must be a number or have the shape [lr], not {list(rates.shape)}")
    with np.errstate(over="ignore"):
        narrow = rates.astype(dtype)
    wrong = ~((narrow > 0.0) & np.isfinite(narrow))
    if wrong.any():
        raise ValueError(f"lr: must be positive and finite in {dtype}, not {rates[wrong][0]}")
    return rates


def measured_steps(measure_at: ArrayLike | None, first: int, last: int) -> Array:
    """Return the steps to measure after, int64 and ascending, the last one if none are given."""
    given = np.atleast_1d(as_numbers("measure_at", [last] if measure_at is None else measure_at))
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            "measure_at: must be integers that ascend, in one dimension, "
            f"not {given.dtype} of the shape {list(given.shape)}"
        )
    steps = given.astype(np.int64)
    least = 0 if first == 0 else first + 1
    if (steps != given).any() or (np.diff(steps) <= 0).any():
        raise ValueError("measure_at: must be integers that ascend")
    if len(steps) and not (least <= steps[0] and steps[-1] <= last):
        raise ValueError(
            f"measure_at: must lie between {least} and {last}, the last step, "
            f"not between {steps[0]} and {steps[-1]}"
        )
    return steps


CPU = torch.device("cpu")


def require_memory(layout: Mapping[str, tuple[int, int]], device: torch.device = CPU) -> None:
    """Raise unless arrays of these numbers of elements, and bytes of each, fit into memory.

    On the CPU half as much again is needed for their labeling.
    """
    sizes = {name: count * element_bytes for name, (count, element_bytes) in layout.items()}
    needed, available = sum(sizes.values()), free_memory(device)
    if needed * (1.5 if device == CPU else 1.0) > available:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(
            f"replicas, measure_at, window: the results need {needed / 2**30:.3g} GiB, "
            f"{sizes[largest] / 2**30:.3g} of them for {largest}, and {available / 2**30:.3g} GiB are free "
            f"on the device {device}; ask for less, or leave some out of record"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
