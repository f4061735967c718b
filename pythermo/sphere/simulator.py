"""Simulations of SGD on the sphere, and going on with them."""

from collections.abc import Collection

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pythermo import _core
from pythermo._checks import as_floats, as_numbers, require_finite, require_integer, unit_rows
from pythermo.ops._devices import require_device
from pythermo.sphere.chains import run_chains
from pythermo.sphere.protocols import PROTOCOLS, ProtocolName
from pythermo.sphere.settings import (
    RECORDED,
    Array,
    DType,
    Plan,
    Retraction,
    Sampling,
    Settings,
    learning_rates,
    require_memory,
)
from pythermo.sphere.systems import IsotropicNoise, Quadratics, System

# Where the paper's toy starts, before it is normalized.
PAPER_START = np.array([-0.8, 0.6, 0.1]) / np.sqrt(1.01)


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
    protocol: ProtocolName = "sphere",
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
        Starting points, of norm 1 on the sphere (to 1e-6; then normalized in float64), other than 0 in
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

    Examples
    --------
    >>> import pythermo as pt
    >>> found = pt.sphere.simulate(pt.sphere.overparameterized(), lr=[0.1, 0.2], steps=1000, replicas=4)
    >>> dict(found["loss"].sizes)
    {'lr': 2, 'replica': 4, 'step': 1}
    >>> bool((found["loss"] < 1e-6).all())
    True
    """
    settings = Settings(
        batch_size=batch_size,
        seed=seed,
        retraction=retraction,
        protocol=protocol,
        weight_decay=weight_decay,
        sampling=sampling,
        dtype=dtype,
    )
    _require_system(system)
    settings.check_system(system)
    where = require_device(device)
    rates = learning_rates(lr, dtype)
    count = require_integer("replicas", replicas, 1, 2**32)
    require_memory({"weights": (len(rates) * count * system.dim, np.dtype(dtype).itemsize)})
    plan = Plan.checked(0, steps, measure_at, window, stride, record, threads)
    weights = _start(start, system, (len(rates), count), settings)
    labels = np.arange(count, dtype=np.int64)
    return run_chains(system, settings, rates, labels, weights, plan, where)


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
        What `simulate` or `resume` returned, or what was read back from a file that it was written to; or a
        part of it, any selection of ``lr`` and ``replica`` in any order, which goes on as it would in the
        whole. A replica is known by its label.
    steps : int
        Further steps.
    measure_at, window, stride, device, record, threads
        As in `simulate`; ``measure_at`` counts from the start of the first simulation.

    Returns
    -------
    xarray.Dataset
        As `simulate`, of the further steps and the given chains, with their labels.

    Raises
    ------
    ValueError, TypeError
        As `simulate`, and for a Dataset that lacks what is needed or whose replicas have other labels.

    Examples
    --------
    >>> import pythermo as pt
    >>> found = pt.sphere.simulate(pt.sphere.overparameterized(), lr=[0.1, 0.2], steps=10, replicas=4)
    >>> part = pt.sphere.resume(found.sel(lr=[0.2], replica=[3, 1]), steps=10)
    >>> part.sizes["lr"], part["replica"].values
    (1, array([3, 1]))
    """
    if not isinstance(simulated, xr.Dataset):
        raise TypeError(f"simulated: must be an xarray.Dataset, not {type(simulated).__name__}")
    missing = {"final_weights", "lr", "replica", "steps", "system", *Settings.__dataclass_fields__}
    missing -= set(simulated.variables) | set(simulated.attrs)
    if missing:
        raise ValueError(
            f"simulated: lacks {', '.join(sorted(missing))}; it must come from simulate or resume"
        )
    ends = simulated["final_weights"]
    if "dim" not in ends.dims or not {"lr", "replica", "dim"} >= set(ends.dims):
        raise ValueError(
            f"simulated: final_weights must have the dimensions lr, replica, dim, not {ends.dims}"
        )
    ends = ends.expand_dims([one for one in ("lr", "replica") if one not in ends.dims])
    where = require_device(device)
    attrs = simulated.attrs
    settings = Settings.of(attrs)
    system: System
    if attrs["system"] == "Quadratics":
        # The rows are of norm 1 already, and normalizing them again might change their last bits.
        system = Quadratics(simulated["vectors"].values)
        object.__setattr__(system, "vectors", np.array(simulated["vectors"].values))
    else:
        system = IsotropicNoise(int(simulated.sizes["dim"]), float(attrs["sigma"]))
    weights = np.array(ends.transpose("lr", "replica", "dim").values, dtype=settings.dtype, order="C")
    first = int(attrs["steps"])
    plan = Plan.checked(first, steps, measure_at, window, stride, record, threads)
    rates, labels = learning_rates(ends["lr"].values, settings.dtype), _labels(ends["replica"].values)
    return run_chains(system, settings, rates, labels, weights, plan, where)


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
    ValueError, TypeError
        As `simulate`.

    Examples
    --------
    >>> import pythermo as pt
    >>> pt.sphere.draws(pt.sphere.underparameterized(), steps=6, sampling="epochs").shape
    (1, 6, 1)
    """
    settings = Settings(batch_size, seed, "projection", "sphere", 0.0, sampling, "float64")
    _require_system(system)
    settings.check_system(system)
    count, length = require_integer("replicas", replicas, 1), require_integer("steps", steps, 1)
    first = require_integer("first_step", first_step, 0, 2**53)
    noisy = isinstance(system, IsotropicNoise)
    shape = (count, length, system.dim if noisy else settings.batch_size)
    kind = np.dtype(np.float64 if noisy else np.int64)
    require_memory({"draws": (int(np.prod([int(n) for n in shape])), kind.itemsize)})
    out = np.empty(shape, kind)
    flat = out.reshape(-1).__dlpack__()
    if isinstance(system, IsotropicNoise):
        _core.sphere_normals(flat, count, system.dim, start=False, seed=settings.seed, first_step=first)
    else:
        samples = len(system.vectors)
        epochs = settings.sampling == "epochs"
        _core.sphere_indices(flat, count, settings.batch_size, samples, epochs, settings.seed, first)
    return out


def _labels(replicas: Array) -> Array:
    """Return the numbers of replicas, of which their random draws are functions."""
    labels = as_numbers("simulated", replicas)
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < 2**32)).all():
        raise ValueError(f"simulated: replicas are known by their numbers from 0, not by {labels}")
    return labels.astype(np.int64)


def _require_system(system: object) -> None:
    if not isinstance(system, Quadratics | IsotropicNoise):
        raise TypeError(f"system: must be Quadratics or IsotropicNoise, not {type(system).__name__}")


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
        points = as_floats("start", start)
        if points.ndim > 3 or points.ndim < 1 or points.shape != shape[3 - points.ndim :]:
            raise ValueError(
                f"start: must have the shape {list(shape[2:])}, {list(shape[1:])} or {list(shape)}, "
                f"not {list(points.shape)}"
            )
        require_finite("start", points)
        if not points.any(axis=-1).all():
            raise ValueError("start: a point is zero, which has no direction")
        if not PROTOCOLS[settings.protocol].in_full_space:
            points = unit_rows("start", points)
    return np.array(np.broadcast_to(points, shape), dtype=settings.dtype, order="C")
