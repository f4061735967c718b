"""Stationary chains of small systems, as a sweep measures networks: all of it exact."""

import numpy as np
import xarray as xr

import pythermo as pt
from pythermo.config.preset import FIGURE_K


def chains_as_sweep(
    system,
    lrs,
    start,
    laplacian,
    seeds,
    replicas,
    samples=16,
    seed=0,
):
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
    seeds, replicas, samples
        Seeds of each learning rate, chains of each seed, and samples of each chain, two correlation times
        apart.
    seed
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


def _one_lr(system, lr, start, seeds, replicas, samples, seed):
    spacing, burn_in = int(np.ceil(2.0 / lr)), int(20.0 / lr)
    found = pt.sphere.simulate(
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
    if isinstance(system, pt.sphere.Quadratics):
        points = np.where(points[..., -1:] < 0.0, -points, points)
    entropy = [float(pt.kozachenko_leonenko_entropy(one, geometry="sphere")) for one in points]
    measured = {
        "loss": found["loss"].values,
        "squared_full_grad_norm": found["full_grad_norm"].values ** 2,
        "rms_noise_norm": found["full_grad_norm"].values / found["snr"].values,
    }
    of_seeds = {name: (("seed", "iteration"), values.reshape(seeds, -1)) for name, values in measured.items()}
    count = replicas * samples
    of_seeds["entropy"] = ("seed", "iteration", "k"), np.tile(np.reshape(entropy, (-1, 1, 1)), (1, count, 1))
    return xr.Dataset(
        of_seeds,
        coords={"seed": np.arange(seeds), "iteration": np.arange(1, count + 1), "k": [FIGURE_K]},
    )
