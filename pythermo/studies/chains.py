"""What many chains of a small system visit once they are stationary."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pythermo import sphere
from pythermo.config.preset import FIGURE_K
from pythermo.estimators.absolute_entropy import kozachenko_leonenko_entropy
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


def chains_as_sweep(
    system: System,
    lrs: ArrayLike,
    start: ArrayLike,
    laplacian: Callable[[xr.DataArray], xr.DataArray],
    seeds: int,
    replicas: int,
    samples: int = SAMPLES,
    seed: int = 0,
) -> xr.Dataset:
    """Sample stationary chains as `pythermo.sweep` measures networks, each seed being some of the chains.

    Parameters
    ----------
    system : Quadratics or IsotropicNoise
        On the unit sphere.
    lrs : array [lr]
        Learning rates.
    start : array [D]
        Where chains start, at or near the minimum.
    laplacian : callable
        Gives the trace of the Hessian of the loss from the loss.
    seeds, replicas, samples : int
        Seeds of each learning rate, chains of each seed, and samples of each chain, two correlation times
        apart.
    seed : int
        Of the draws.

    Returns
    -------
    xarray.Dataset
        As a sweep's, with exact gradients, noise and Hessian, and the absolute entropy (k = 1) in the place
        of that of k = 50. w and -w are one point where they have one loss.
    """
    ones = [_one_lr(system, lr, start, seeds, replicas, samples, seed) for lr in np.asarray(lrs, np.float64)]
    sweep = xr.concat(ones, dim="lr").assign_coords(lr=lrs)
    sweep["hessian_trace"] = laplacian(sweep["loss"])
    sweep["squared_loss_grad_norm"] = sweep["squared_full_grad_norm"]
    return sweep.assign_attrs(weights=system.dim, full_gradient="evaluation", constant_loss=np.inf)


def _one_lr(
    system: System, lr: float, start: ArrayLike, seeds: int, replicas: int, samples: int, seed: int
) -> xr.Dataset:
    spacing, burn_in = int(np.ceil(2.0 / lr)), int(20.0 / lr)
    found = sphere.simulate(
        system,
        lr,
        burn_in + samples * spacing,
        start=start,
        replicas=seeds * replicas,
        seed=seed,
        measure_at=burn_in + spacing * np.arange(1, samples + 1),
        record=("loss", "full_grad_norm", "snr", "weights"),
    ).isel(lr=0)
    points = found["weights"].values.reshape(seeds, -1, system.dim)
    if isinstance(system, sphere.Quadratics):
        points = np.where(points[..., -1:] < 0.0, -points, points)
    entropy = [float(kozachenko_leonenko_entropy(one, geometry="sphere")) for one in points]
    measured = {
        "loss": found["loss"].values,
        "squared_full_grad_norm": found["full_grad_norm"].values ** 2,
        "rms_noise_norm": found["full_grad_norm"].values / found["snr"].values,
    }
    of_seeds: dict[str, tuple[tuple[str, ...], Floats]] = {
        name: (("seed", "iteration"), values.reshape(seeds, -1)) for name, values in measured.items()
    }
    count = replicas * samples
    of_seeds["entropy"] = ("seed", "iteration", "k"), np.tile(np.reshape(entropy, (-1, 1, 1)), (1, count, 1))
    return xr.Dataset(
        of_seeds,
        coords={"seed": np.arange(seeds), "iteration": np.arange(1, count + 1), "k": [FIGURE_K]},
    )
