"""What many chains of a small system visit once they are stationary."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pythermo import sphere
from pythermo.sphere.protocols import ProtocolName
from pythermo.sphere.systems import System

Floats = NDArray[np.float64]

SAMPLES = 16  # of each chain


@dataclass(frozen=True)
class StationarySamples:
    """Mean loss, ``points`` [replicas * SAMPLES, D] and the number of independent losses among them."""

    energy: float
    points: Floats
    effective_samples: float


def stationary_samples(
    system: System,
    lr: float,
    burn_in: int,
    start: ArrayLike,
    replicas: int,
    seed: int,
    effective_lr: float | None = None,
    protocol: ProtocolName = "sphere",
    weight_decay: float = 0.0,
) -> StationarySamples:
    """Run chains for ``burn_in`` steps and sample each from then on, two correlation times apart.

    A correlation time is taken for the inverse of the effective learning rate, which is ``lr`` on the unit
    sphere.
    """
    spacing = int(np.ceil(2.0 / (lr if effective_lr is None else effective_lr)))
    found = sphere.simulate(
        system,
        lr,
        burn_in + SAMPLES * spacing,
        start=start,
        replicas=replicas,
        seed=seed,
        measure_at=[],
        window=SAMPLES,
        stride=spacing,
        record=("window_loss", "trajectory"),
        protocol=protocol,
        weight_decay=weight_decay,
    )
    return StationarySamples(
        energy=float(found["window_loss_mean"].mean()),
        points=found["trajectory"].values.reshape(-1, found.sizes["dim"]),
        effective_samples=float(np.minimum(found["effective_samples"], SAMPLES).sum()),
    )
