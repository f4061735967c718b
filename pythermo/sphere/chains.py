"""A run of chains by a native kernel: settings and points in, labeled measurements out."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr

from pythermo.estimators.autocorrelation import effective_sample_size
from pythermo.ops._backends import KERNELS
from pythermo.ops.sphere import SphereSettings
from pythermo.sphere.noisy_norm import mean_noisy_norm
from pythermo.sphere.settings import AT_STEPS, CPU, RECORDED, Array, Plan, Settings, require_memory
from pythermo.sphere.systems import IsotropicNoise, System

_MOMENTS = ("window_mean", "window_variance")  # of the window's losses

_UNITS = {
    "lr": ("learning rate", "weight units per loss gradient"),
    "step": ("number of SGD steps made", "iterations"),
    "window_step": ("number of SGD steps made, in the window", "iterations"),
    "loss": ("full loss", "loss units"),
    "full_grad_norm": ("norm of the full gradient", "loss units per weight unit"),
    "mean_grad_norm": ("mean norm of the gradients of single samples", "loss units per weight unit"),
    "snr": ("full gradient norm over root mean square noise of single samples", "1"),
    "weights": ("weights", "weight units"),
    "window_loss": ("full loss in the window", "loss units"),
    "window_loss_mean": ("mean of the full loss over the window", "loss units"),
    "window_loss_variance": ("variance of the full loss over the window", "loss units squared"),
    "effective_samples": ("effective sample size of the window's losses", "samples"),
    "trajectory": ("weights in the window", "weight units"),
    "final_weights": ("weights after the last step", "weight units"),
}


def run_chains(
    system: System,
    settings: Settings,
    rates: Array,
    replicas: Array,
    start: Array,
    plan: Plan,
    device: torch.device,
) -> xr.Dataset:
    """Run chains from points [lr, replica, D], from the plan's first step to its last.

    ``replicas`` are the numbers that their random draws are functions of.
    """
    wanted = set(plan.record)
    if isinstance(system, IsotropicNoise) and "mean_grad_norm" in wanted:
        wanted.add("full_grad_norm")
    kind, native = np.dtype(settings.dtype), _native(system, settings, plan)
    vectors = np.zeros((0, system.dim)) if isinstance(system, IsotropicNoise) else system.vectors
    given = {
        "vectors": vectors.T.ravel().astype(kind),
        "weights": start.reshape(-1),
        "lr": np.repeat(rates.astype(kind), start.shape[1]),
        "replica": np.tile(replicas, start.shape[0]),
    }
    chains = len(given["lr"])
    layout = _layout(wanted, plan, chains, system.dim, kind)
    require_memory({name: (size, dtype.itemsize) for name, (size, dtype) in layout.items()})
    workspace = KERNELS[device.type, "sphere_workspace_size"](native, chains, len(vectors), kind.itemsize)
    if device != CPU:
        beside = {name: (array.size, array.itemsize) for name, array in given.items()}
        sizes = {f"{name} recorded": (size, dtype.itemsize) for name, (size, dtype) in layout.items()}
        require_memory({**sizes, **beside, "workspace": (workspace, 8)}, device)
    moved = {name: torch.from_numpy(array).to(device) for name, array in given.items()}
    out = {name: torch.empty(size, dtype=dtype, device=device) for name, (size, dtype) in layout.items()}
    arrays = {**moved, **out, "measure_at": torch.from_numpy(plan.measure_at)}
    KERNELS[device.type, "simulate_sphere"](native, arrays, plan.threads)
    results = {name: tensor.cpu().numpy() for name, tensor in out.items()}
    weights = moved["weights"].cpu().numpy().reshape(start.shape)
    moments = {name: results[name] for name in _MOMENTS}
    found = {name: results["weights_at" if name == "weights" else name] for name in RECORDED}
    _require_finite_chains(weights, rates, replicas)
    if isinstance(system, IsotropicNoise) and "mean_grad_norm" in wanted:
        found["mean_grad_norm"] = mean_noisy_norm(
            found["full_grad_norm"], system.sigma * found["mean_grad_norm"], system.dim - 1
        )
    dataset = _labeled({name: found[name] for name in plan.record}, moments, rates, replicas, weights, plan)
    if isinstance(system, IsotropicNoise):
        dataset.attrs["sigma"] = system.sigma
    else:
        dataset["vectors"] = (("sample", "dim"), system.vectors)
    dataset.attrs |= {
        "system": type(system).__name__,
        "steps": plan.last,
        "window": plan.window,
        "stride": plan.stride,
        **asdict(settings),
    }
    return dataset


def _layout(
    wanted: Collection[str], plan: Plan, chains: int, dim: int, kind: np.dtype[Any]
) -> dict[str, tuple[int, torch.dtype]]:
    """Return the number of elements of each output, 0 for what is not wanted, and its dtype."""
    measured, own = len(plan.measure_at), getattr(torch, kind.name)
    per_chain = dict.fromkeys(AT_STEPS, (measured, torch.float64))
    per_chain["weights"] = (measured * dim, own)
    per_chain["window_loss"] = (plan.window, torch.float64)
    per_chain["trajectory"] = (plan.window * dim, own)
    layout = {
        "weights_at" if name == "weights" else name: (chains * count if name in wanted else 0, dtype)
        for name, (count, dtype) in per_chain.items()
    }
    return layout | dict.fromkeys(_MOMENTS, (chains if plan.window else 0, torch.float64))


def _native(system: System, settings: Settings, plan: Plan) -> SphereSettings:
    return SphereSettings(
        dim=system.dim,
        sigma=system.sigma if isinstance(system, IsotropicNoise) else 0.0,
        batch_size=settings.batch_size,
        epochs=settings.sampling == "epochs",
        seed=settings.seed,
        protocol=settings.protocol,
        retraction=settings.retraction,
        weight_decay=settings.weight_decay,
        first_step=plan.first,
        last_step=plan.last,
        window=plan.window,
        stride=plan.stride,
    )


def _labeled(
    found: Mapping[str, Array],
    moments: Mapping[str, Array],
    rates: Array,
    replicas: Array,
    weights: Array,
    plan: Plan,
) -> xr.Dataset:
    """Return the kernel's flat results as a Dataset with dimensions, coordinates and units."""
    lrs, count, dim = weights.shape
    window_steps = plan.last - plan.stride * np.arange(plan.window - 1, -1, -1)
    dataset = xr.Dataset(coords={"lr": rates, "replica": replicas})
    for name, values in found.items():
        along, length = ("step", len(plan.measure_at)) if name in AT_STEPS else ("window", len(window_steps))
        if name in ("weights", "trajectory"):
            dataset[name] = (("lr", "replica", along, "dim"), values.reshape(lrs, count, length, dim))
        else:
            dataset[name] = (("lr", "replica", along), values.reshape(lrs, count, length))
    dataset = dataset.assign_coords(step=plan.measure_at)
    if len(window_steps):
        for name, values in moments.items():
            full = name.replace("window_", "window_loss_")
            dataset[full] = (("lr", "replica"), values.reshape(lrs, count))
        dataset = dataset.assign_coords(window_step=("window", window_steps))
    if "window_loss" in dataset and len(window_steps) >= 2:
        size = effective_sample_size(dataset["window_loss"].values)
        dataset["effective_samples"] = (("lr", "replica"), size)
    dataset["final_weights"] = (("lr", "replica", "dim"), weights)
    for name, (long_name, units) in _UNITS.items():
        if name in dataset.variables:
            dataset[name].attrs = {"long_name": long_name, "units": units}
    return dataset


def _require_finite_chains(weights: Array, rates: Array, replicas: Array) -> None:
    finite = np.isfinite(weights).all(axis=-1)
    if not finite.all():
        lr, replica = np.argwhere(~finite)[0]
        raise ValueError(
            f"lr: the chain at {rates[lr]:g} (replica {replicas[replica]}) left the finite numbers; "
            "it must be smaller"
        )
