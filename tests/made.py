"""Sweeps whose temperatures and regimes are known, without any training."""

import numpy as np
import xarray as xr
from tiny import TINY

from pythermo.analysis.setup import Progress, Setup
from pythermo.config.preset import Preset
from pythermo.sphere.protocols import PROTOCOLS, Sphere


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


def planted_gas(protocol: str, seeds: int = 3) -> xr.Dataset:
    """Return a sweep of ideal gases, D = 101, whose U is (D - 1) T / 2: dU = T dS along learning rates."""
    lr, other = np.logspace(-2, -1, 4), np.logspace(-2, -1, 3)
    axis = "radius" if protocol == "sphere" else "weight_decay"
    grid = xr.Dataset(coords={"lr": lr, axis: other, "seed": range(seeds), "iteration": [100, 200, 300, 400]})
    dim, variance = 101, 0.05
    shape = xr.zeros_like(grid["lr"] * 1.0 + grid[axis] + grid["seed"] + grid["iteration"] * 1.0)
    jitter = shape + np.random.default_rng(0).normal(size=shape.shape) * 1e-3
    decay = grid[axis] if axis == "weight_decay" else 0.0
    own = Sphere(grid["radius"]) if protocol == "sphere" else PROTOCOLS[protocol]
    trace = variance * (dim - 1)
    r2 = shape + own.radius(grid["lr"], variance, dim, decay) ** 2
    temperature = shape + own.temperature(grid["lr"], variance, dim, decay)
    g2 = trace / r2
    eta = own.step_size(grid["lr"], r2**0.5)
    entropy = (dim - 1) / 2.0 * np.log(temperature * r2)
    dataset = xr.Dataset(
        {
            "loss": (dim - 1) * temperature / 2.0 * (1.0 + jitter),
            "entropy": entropy.expand_dims(k=[50]) + jitter,
            "squared_full_grad_norm": shape + 0.0,
            "rms_noise_norm": g2**0.5,
            "log_radius": np.log(r2) / 2.0,
            "noise_trace": shape + trace,
            "squared_signal": shape + 0.0,
            "mean_r2": r2,
            "mean_r4": r2**2,
            "mean_r6": r2**3,
            "mean_g2": g2,
            "mean_r2_g2": r2 * g2,
            "mean_r4_g2": r2**2 * g2,
            "mean_next_r2": r2 + eta**2 * g2 if protocol == "sphere" else r2,
        }
    )
    changes = {"training.protocol": protocol}
    changes |= {} if protocol == "sphere" else {"training.weight_decay": 0.1}
    config = TINY.changed(**changes, **{"measurement.stationary": 2})
    return dataset.assign_attrs(
        config=config.to_toml(), weights=dim, full_gradient="mean", constant_loss=99.0
    )


def gas_setup(protocol: str, seeds: int = 3, title: str = "made") -> Setup:
    """Return a planted gas as a sweep that was read from a folder."""
    sweep = planted_gas(protocol, seeds)
    axis = "radius" if protocol == "sphere" else "weight_decay"
    decay = 0.0 if protocol == "sphere" else 0.1
    changes = {"training.protocol": protocol, "training.weight_decay": decay}
    changes |= {"training.iterations": 400, "measurement.late": 4, "measurement.window": 51}
    run = TINY.changed(**changes)
    values = {"description": "", "lr": sweep["lr"].values.tolist(), axis: sweep[axis].values.tolist()}
    preset = Preset.checked(
        {**values, "seeds": seeds, "run": run.model_dump(exclude_unset=True, exclude={"lr"})}
    )
    members = sweep.sizes["lr"] * sweep.sizes[axis] * seeds
    return Setup(title, title, preset, sweep, None, Progress(members, (), 1, 1, ()))
