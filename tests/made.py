"""Sweeps whose temperatures and regimes are known, without any training."""

import numpy as np
import xarray as xr

from pythermo.analysis.setup import Progress, Setup
from pythermo.config.preset import Preset


def made_sweep(n: int = 8, last: int = 30) -> xr.Dataset:
    """Return a sweep whose stationary points have dU/dS = 0.03 * lr ** 0.85, U falling towards them."""
    lr, k = np.logspace(-3, -1, n), [10, 50]
    iteration = np.unique(np.geomspace(1, 8000, last).round().astype(int))
    energy = 100 * 0.03 / 0.85 * lr**0.85
    start = 1.0 / iteration[None, :] ** 2
    loss = energy[:, None] * (1.0 + start)
    entropy = 100 * np.log(lr)[:, None] + 5 * np.log(1 + start)
    full = 1.0 / iteration[None, :] * np.ones_like(loss)
    return xr.Dataset(
        {
            "loss": (("lr", "iteration"), loss),
            "entropy": (("lr", "iteration", "k"), np.stack([entropy - 1, entropy], axis=-1)),
            "squared_full_grad_norm": (("lr", "iteration"), np.resize([5.0, -1.0], loss.shape)),
            "rms_noise_norm": (("lr", "iteration"), np.full_like(loss, 2.0)),
            "full_grad_norm": (("lr", "iteration"), full),
            "mean_grad_norm": (("lr", "iteration"), 12.0 * full**0.87),
            "snr": (("lr", "iteration"), full),
        },
        coords={"lr": lr, "iteration": iteration, "k": k},
        attrs={"weights": 101, "full_gradient": "mean", "constant_loss": np.inf},
    )


def planted() -> xr.Dataset:
    """Return a sweep of 12 runs: 3 converge, 6 are in equilibrium on a convex U(S) but for one, 3 are chaotic."""
    lr, iteration = np.logspace(-4, -1, 12), np.unique(np.geomspace(100, 10_000, 40).round()).astype(int)
    random = np.random.default_rng(0)
    noise = 1.0 + 0.01 * random.standard_normal((12, len(iteration)))
    energy, entropy = np.empty_like(noise), np.empty_like(noise)
    energy[:3] = 5.0 / iteration
    entropy[:3] = -1000.0 * np.log(iteration)
    entropy[3:] = 500.0 * np.log(lr[3:, None]) + 10.0 * (noise[3:] - 1.0)
    energy[3:] = 30.0 * lr[3:, None]
    energy[6] += 0.3  # off the hull
    energy[9:] = 3.0
    return xr.Dataset(
        {
            "loss": (("lr", "iteration"), energy * noise),
            "entropy": (("lr", "iteration", "k"), entropy[..., None]),
            "squared_full_grad_norm": (("lr", "iteration"), np.ones_like(noise)),
            "full_grad_norm": (("lr", "iteration"), np.abs(noise)),
            "mean_grad_norm": (("lr", "iteration"), 2.0 * np.abs(noise)),
            "rms_noise_norm": (("lr", "iteration"), np.ones_like(noise)),
        },
        coords={"lr": lr, "iteration": iteration, "k": [50]},
        attrs={"constant_loss": np.log(10.0), "full_gradient": "mean", "weights": 501},
    )


def baseline(loss=1.0, entropy=0.0) -> xr.Dataset:
    return xr.Dataset(
        {"uniform_loss": loss, "uniform_entropy": ("k", [0.0, entropy])}, coords={"k": [10, 50]}
    )


def setup(
    sweep: xr.Dataset, title="made", settings=("fit={}", "run.measurement.stationary=3"), **values
) -> Setup:
    preset = Preset.load("digits-up", settings)
    lr = sweep["lr"].values.tolist()
    preset = Preset.checked({**preset.model_dump(exclude_unset=True, exclude={"grid"}), "lr": lr, **values})
    with_seed = sweep if "seed" in sweep.dims else sweep.expand_dims(seed=[0])
    members = with_seed.sizes["lr"] * with_seed.sizes["seed"]
    return Setup(title, title, preset, with_seed, baseline(), Progress(members, (), 1, 1, ()))


def late_sweep(drifting=(), seeds=6, scatter=1e-3) -> xr.Dataset:
    """Return the made sweep in equilibrium by several seeds, U of some learning rates drifting.

    Seeds scatter by a share of the step between learning rates, drifts are half of it in a quarter.
    """
    random, late = np.random.default_rng(0), np.arange(4100, 8001, 100)
    made = made_sweep().isel(iteration=[-1] * len(late)).assign_coords(iteration=late)
    made = made.expand_dims(seed=range(seeds))
    step = np.gradient(made["loss"].isel(iteration=-1, seed=0).values)
    noise = xr.DataArray(scatter * step[:, None] * random.normal(size=(8, seeds)), dims=("lr", "seed"))
    slope = xr.DataArray(np.where(np.isin(np.arange(8), drifting), step / 2, 0.0), dims="lr")
    moves = xr.DataArray(1e-3 * random.normal(size=len(late)), dims="iteration")
    return made.assign(
        loss=made["loss"] + noise + slope * (made["iteration"] - 8000) / 2000,
        entropy=made["entropy"] + moves,
    ).assign_attrs(constant_loss=100.0)
