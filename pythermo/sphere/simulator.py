"""Chains of SGD on the sphere, run by a native kernel: settings in, labelled measurements out."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import factorial, gammaln, hyp1f1

from pythermo import _core
from pythermo._backends import BACKENDS
from pythermo._devices import require_device
from pythermo.autocorrelation import effective_sample_size
from pythermo.sphere.settings import (
    AT_STEPS,
    CPU,
    RECORDED,
    Array,
    DType,
    Plan,
    Protocol,
    Retraction,
    Sampling,
    Settings,
    learning_rates,
    require_integer,
    require_memory,
)
from pythermo.sphere.systems import IsotropicNoise, Quadratics, System, require_finite, unit_rows

# Where the paper's toy starts, before it is normalised.
PAPER_START = np.array([-0.8, 0.6, 0.1]) / np.sqrt(1.01)

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


def simulate(
    system: System,
    lr: ArrayLike,
    steps: int,
    start: ArrayLike | None = None,
    replicas: int = 1,
    batch_size: int = 1,
    seed: int = 0,
    measure_at: ArrayLike | None = None,
    window: int = 0,
    stride: int = 1,
    retraction: Retraction = "projection",
    dtype: DType = "float64",
    device: str = "cpu",
    *,
    protocol: Protocol = "sphere",
    weight_decay: float = 0.0,
    sampling: Sampling = "iid",
    record: Collection[str] = RECORDED,
    threads: int | None = None,
) -> xr.Dataset:
    """Run SGD chains of a small system: one per learning rate and replica, all in native code.

    Parameters
    ----------
    system : Quadratics or IsotropicNoise
        The loss, and where its stochastic gradients come from.
    lr : float or array [lr]
        Learning rates, positive; effective ones under the protocol "fixed-elr".
    steps : int
        SGD steps of each chain, from 1 to 2^48.
    start : array [D], [replica, D] or [lr, replica, D], optional
        Starting points, of norm 1 on the sphere (to 1e-6; then normalised in float64), other than 0 in
        full space. If not given, each replica starts at a point of its own, uniform on the unit sphere.
    replicas : int
        Chains per learning rate. A replica's random numbers are those of its number, at every learning
        rate and for any number of other replicas.
    batch_size : int
        Samples per gradient, at most 2^15.
    seed : int
        From 0 to 2^63 - 1.
    measure_at : array [step] of int, optional
        Steps after which to measure, from 0 (the start) to ``steps``, ascending; the last if not given.
    window, stride : int
        Samples at the end of the run, and the steps between them; ``window * stride <= steps``.
    retraction : {"projection", "exponential"}
        How a step returns to the sphere.
    dtype : {"float64", "float32"}
        Of the weights; losses and norms are stored in float64. A step of float32 weights is lost in
        rounding where ``lr * gradient`` is below 1e-7.
    device : str
        Where to run: "cpu", "cuda" or "cuda:1", as torch names them.
    protocol : {"sphere", "fixed-lr", "fixed-elr"}
        On the unit sphere; or in full space, ``w <- w - s (grad + weight_decay w)``, with steps s of the
        size lr or, at a fixed effective learning rate, ``lr * |w|^2``.
    weight_decay : float
        In full space.
    sampling : {"iid", "epochs"}
        Batches drawn with replacement, or cut from one permutation per epoch.
    record : collection of str
        What to keep, of loss, full_grad_norm, mean_grad_norm, snr, weights (at the measured steps) and
        window_loss, trajectory (in the window); all of it if not given.
    threads : int, optional
        Of the CPU; as many as there are cores if not given.

    Returns
    -------
    xarray.Dataset
        Dimensions lr, replica, step, dim and window. At the measured steps: ``loss``,
        ``full_grad_norm``, ``mean_grad_norm`` and ``snr`` of single samples (exact over the samples of
        Quadratics, or over the noise), ``weights``. Of the window: ``window_loss``, ``trajectory``,
        ``window_loss_mean``, ``window_loss_variance`` (about it, divided by the number of samples) and
        ``effective_samples`` (see `pythermo.effective_sample_size`). ``final_weights``, ``vectors``.
        Settings and units are attributes. `resume` goes on from it.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, for values out of range, shapes that do not fit, results that do not fit
        into memory, devices that are not there, and chains that left the finite numbers.

    Notes
    -----
    The same bits for any number of threads, replicas and learning rates, and on every processor but for
    numbers below 2e-308 (1e-38 in float32), which x86 flushes to zero. On CUDA devices too up to D = 4;
    beyond, sums over the coordinates are in another order there. SNR is 0/0 = NaN where a chain has
    reached a loss of exactly 0. Source: arXiv 2505.23489 and 2511.07308.
    """
    settings = Settings(
        batch_size=batch_size,
        seed=seed,
        retraction=retraction,
        protocol=protocol,
        weight_decay=float(weight_decay),
        sampling=sampling,
        dtype=dtype,
    )
    if not isinstance(system, Quadratics | IsotropicNoise):
        raise TypeError(f"system: must be Quadratics or IsotropicNoise, not {type(system).__name__}")
    settings.check_system(system)
    where = require_device(device)
    rates = learning_rates(lr, dtype)
    count = require_integer("replicas", replicas, 1, 2**32)
    require_memory({"weights": (len(rates) * count * system.dim, np.dtype(dtype).itemsize)})
    plan = Plan.checked(0, steps, measure_at, window, stride, record, threads)
    weights = _start(start, system, (len(rates), count), settings)
    return _run(system, settings, rates, weights, plan, where)


def resume(
    simulated: xr.Dataset,
    steps: int,
    measure_at: ArrayLike | None = None,
    window: int = 0,
    stride: int = 1,
    device: str = "cpu",
    *,
    record: Collection[str] = RECORDED,
    threads: int | None = None,
) -> xr.Dataset:
    """Go on from where a simulation ended: to the bit as if it had never stopped.

    Parameters
    ----------
    simulated : xarray.Dataset
        What `simulate` or `resume` returned, or what was read back from a file that it was written to.
    steps : int
        Further steps.
    measure_at, window, stride, device, record, threads
        As in `simulate`; ``measure_at`` counts from the start of the first simulation.

    Returns
    -------
    xarray.Dataset
        As `simulate`, of the further steps.

    Raises
    ------
    ValueError
        As `simulate`, and for a Dataset that lacks what is needed.
    """
    missing = {"final_weights", "steps", "system", *Settings.__dataclass_fields__}
    missing -= set(simulated.variables) | set(simulated.attrs)
    if missing:
        raise ValueError(
            f"simulated: lacks {', '.join(sorted(missing))}; it must come from simulate or resume"
        )
    where = require_device(device)
    attrs = simulated.attrs
    settings = Settings.of(attrs)
    system: System
    if attrs["system"] == "Quadratics":
        # The rows are of norm 1 already, and normalising them again might change their last bits.
        system = Quadratics(simulated["vectors"].values)
        object.__setattr__(system, "vectors", np.array(simulated["vectors"].values))
    else:
        system = IsotropicNoise(int(simulated.sizes["dim"]), float(attrs["sigma"]))
    weights = np.array(simulated["final_weights"].transpose("lr", "replica", "dim").values, order="C")
    first = int(attrs["steps"])
    plan = Plan.checked(first, steps, measure_at, window, stride, record, threads)
    return _run(system, settings, simulated["lr"].values, weights, plan, where)


def draws(
    system: System,
    steps: int,
    replicas: int = 1,
    batch_size: int = 1,
    seed: int = 0,
    sampling: Sampling = "iid",
    first_step: int = 0,
) -> Array:
    """Return the random draws that `simulate` makes with these arguments.

    Parameters
    ----------
    system, steps, replicas, batch_size, seed, sampling
        As in `simulate`.
    first_step : int
        The step that the first draw is for.

    Returns
    -------
    array
        Of Quadratics the indices [replica, step, batch_size] of the samples; of IsotropicNoise the
        normal deviates [replica, step, D], which are still to be multiplied by sigma and projected.

    Raises
    ------
    ValueError
        As `simulate`.
    """
    settings = Settings(batch_size, seed, "projection", "sphere", 0.0, sampling, "float64")
    settings.check_system(system)
    count, length = require_integer("replicas", replicas, 1), require_integer("steps", steps, 1)
    first = require_integer("first_step", first_step, 0, 2**53)
    noisy = isinstance(system, IsotropicNoise)
    shape = (count, length, system.dim if noisy else batch_size)
    kind = np.dtype(np.float64 if noisy else np.int64)
    require_memory({"draws": (int(np.prod([int(n) for n in shape])), kind.itemsize)})
    out = np.empty(shape, kind)
    flat = out.reshape(-1).__dlpack__()
    if isinstance(system, IsotropicNoise):
        _core.sphere_normals(flat, count, system.dim, start=False, seed=seed, first_step=first)
    else:
        samples = len(system.vectors)
        _core.sphere_indices(flat, count, batch_size, samples, sampling == "epochs", seed, first)
    return out


def _run(
    system: System, settings: Settings, rates: Array, start: Array, plan: Plan, device: torch.device
) -> xr.Dataset:
    """Run chains from points [lr, replica, D], from the plan's first step to its last."""
    wanted = set(plan.record)
    if isinstance(system, IsotropicNoise) and "mean_grad_norm" in wanted:
        wanted.add("full_grad_norm")
    kind, native, backend = np.dtype(settings.dtype), _native(system, settings, plan), BACKENDS[device.type]
    vectors = np.zeros((0, system.dim)) if isinstance(system, IsotropicNoise) else system.vectors
    given = {
        "vectors": vectors.T.ravel().astype(kind),
        "weights": start.reshape(-1),
        "lr": np.repeat(rates.astype(kind), start.shape[1]),
        "replica": np.tile(np.arange(start.shape[1], dtype=np.int64), start.shape[0]),
    }
    chains = len(given["lr"])
    layout = _layout(wanted, plan, chains, system.dim, kind)
    require_memory({name: (size, dtype.itemsize) for name, (size, dtype) in layout.items()})
    workspace = backend.sphere_workspace_size(native, chains, len(vectors), kind.itemsize)
    if device != CPU:
        beside = {name: (array.size, array.itemsize) for name, array in given.items()}
        sizes = {f"{name} recorded": (size, dtype.itemsize) for name, (size, dtype) in layout.items()}
        require_memory({**sizes, **beside, "workspace": (workspace, 8)}, device)
    moved = {name: torch.from_numpy(array).to(device) for name, array in given.items()}
    out = {name: torch.empty(size, dtype=dtype, device=device) for name, (size, dtype) in layout.items()}
    backend.simulate_sphere(
        native,
        {**moved, **out, "measure_at": torch.from_numpy(plan.measure_at)},
        plan.threads,
    )
    results = {name: tensor.cpu().numpy() for name, tensor in out.items()}
    weights = moved["weights"].cpu().numpy().reshape(start.shape)
    moments = {name: results[name] for name in _MOMENTS}
    found = {name: results["weights_at" if name == "weights" else name] for name in RECORDED}
    _require_finite_chains(weights, rates)
    if isinstance(system, IsotropicNoise) and "mean_grad_norm" in wanted:
        found["mean_grad_norm"] = _mean_noisy_norm(
            found["full_grad_norm"], system.sigma * found["mean_grad_norm"], system.dim - 1
        )
    dataset = _labelled({name: found[name] for name in plan.record}, moments, rates, weights, plan)
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


def _native(system: System, settings: Settings, plan: Plan) -> dict[str, Any]:
    return {
        "dim": system.dim,
        "sigma": system.sigma if isinstance(system, IsotropicNoise) else 0.0,
        "batch_size": settings.batch_size,
        "epochs": settings.sampling == "epochs",
        "seed": settings.seed,
        "protocol": settings.retraction if settings.protocol == "sphere" else settings.protocol,
        "weight_decay": settings.weight_decay,
        "first_step": plan.first,
        "last_step": plan.last,
        "window": plan.window,
        "stride": plan.stride,
    }


def _labelled(
    found: Mapping[str, Array],
    moments: Mapping[str, Array],
    rates: Array,
    weights: Array,
    plan: Plan,
) -> xr.Dataset:
    """Return the kernel's flat results as a Dataset with dimensions, coordinates and units."""
    lrs, replicas, dim = weights.shape
    window_steps = plan.last - plan.stride * np.arange(plan.window - 1, -1, -1)
    dataset = xr.Dataset(coords={"lr": rates, "replica": np.arange(replicas)})
    for name, values in found.items():
        along, length = ("step", len(plan.measure_at)) if name in AT_STEPS else ("window", len(window_steps))
        if name in ("weights", "trajectory"):
            dataset[name] = (("lr", "replica", along, "dim"), values.reshape(lrs, replicas, length, dim))
        else:
            dataset[name] = (("lr", "replica", along), values.reshape(lrs, replicas, length))
    dataset = dataset.assign_coords(step=plan.measure_at)
    if len(window_steps):
        for name, values in moments.items():
            full = name.replace("window_", "window_loss_")
            dataset[full] = (("lr", "replica"), values.reshape(lrs, replicas))
        dataset = dataset.assign_coords(window_step=("window", window_steps))
    if "window_loss" in dataset and len(window_steps) >= 2:
        size = effective_sample_size(dataset["window_loss"].values)
        dataset["effective_samples"] = (("lr", "replica"), size)
    dataset["final_weights"] = (("lr", "replica", "dim"), weights)
    for name, (long_name, units) in _UNITS.items():
        if name in dataset.variables:
            dataset[name].attrs = {"long_name": long_name, "units": units}
    return dataset


def _mean_noisy_norm(full: Array, sigma: Array, freedom: int) -> Array:
    """Return the mean of |G + noise| for |G| = ``full`` and normal noise in ``freedom`` directions."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squared = (full / sigma) ** 2
        factor = np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2)) * np.sqrt(2.0)
        mean = factor * hyp1f1(-0.5, freedom / 2, -0.5 * squared)
        mean = np.where(np.isfinite(mean), mean, _mean_of_far_norm(squared, freedom))
    return np.where(sigma > 0.0, sigma * mean, full)


def _mean_of_far_norm(squared: Array, freedom: int) -> Array:
    """Return the mean of the root of a noncentral chi-squared variable Q from its moments.

    E sqrt(Q) in powers of Q / E Q - 1, of which the sixth is the last: off by less than 1e-8 where E Q is
    beyond 300, where hyp1f1 begins to overflow.
    """
    mean = freedom + squared

    def cumulant(n: int) -> Array:
        value: Array = 2.0 ** (n - 1) * factorial(n - 1) * (freedom + n * squared) / mean**n
        return value

    k2, k3, k4, k5, k6 = (cumulant(n) for n in range(2, 7))
    fourth, fifth = k4 + 3.0 * k2**2, k5 + 10.0 * k3 * k2
    sixth = k6 + 15.0 * k4 * k2 + 10.0 * k3**2 + 15.0 * k2**3
    series = 1.0 - k2 / 8 + k3 / 16 - 5 * fourth / 128 + 7 * fifth / 256 - 21 * sixth / 1024
    root: Array = np.sqrt(mean) * series
    return root


def _start(start: ArrayLike | None, system: System, chains: tuple[int, int], settings: Settings) -> Array:
    """Return checked starting points [lr, replica, D], writeable and contiguous."""
    shape = (*chains, system.dim)
    if start is None:
        normals = np.empty((chains[1], system.dim))
        _core.sphere_normals(
            normals.reshape(-1).__dlpack__(),
            chains[1],
            system.dim,
            start=True,
            seed=settings.seed,
            first_step=0,
        )
        points = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    else:
        points = np.asarray(start, dtype=np.float64)
        if points.ndim > 3 or points.ndim < 1 or points.shape != shape[3 - points.ndim :]:
            raise ValueError(
                f"start: must have the shape {list(shape[2:])}, {list(shape[1:])} or {list(shape)}, "
                f"not {list(points.shape)}"
            )
        require_finite("start", points)
        if not points.any(axis=-1).all():
            raise ValueError("start: a point is zero, which has no direction")
        if settings.protocol == "sphere":
            points = unit_rows("start", points)
    return np.array(np.broadcast_to(points, shape), dtype=settings.dtype, order="C")


def _require_finite_chains(weights: Array, rates: Array) -> None:
    finite = np.isfinite(weights).all(axis=-1)
    if not finite.all():
        lr, replica = np.argwhere(~finite)[0]
        raise ValueError(
            f"lr: the chain at {rates[lr]:g} (replica {replica}) left the finite numbers; it must be smaller"
        )
