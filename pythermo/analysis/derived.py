"""What follows from the members of a sweep besides dU/dS: each quantity, and how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo._checks import Floats, require_number
from pythermo.analysis.members import Members
from pythermo.config.schema import RunConfig
from pythermo.estimators.histogram_ratio import inverse_temperature_step

# Losses of a learning rate from which its histogram says something.
_LEAST_LOSSES = 200

TEMPERATURE, NATS, _LOSS = "loss units per nat", "nats", "loss units"


@dataclass(frozen=True)
class Derived:
    """What follows from members: its value [lr], what it is called, and what must have been measured."""

    name: str
    long_name: str
    unit: str
    value: Callable[[Members], Floats]
    needs: tuple[str, ...] = ()


def _configurational(members: Members) -> Floats:
    return members["squared_loss_grad_norm"] / members["hessian_trace"]


def _heat_capacity(members: Members) -> Floats:
    temperature, energy = members.noise_temperature, members["energy"]
    capacity, known = np.full(len(energy), np.nan), np.isfinite(energy)
    if known.sum() > 1:
        by_log = np.gradient(energy[known], np.log(members.lr[known]))
        capacity[known] = by_log / np.gradient(temperature[known], np.log(members.lr[known]))
    return capacity


def _quench_dimension(members: Members) -> Floats:
    """Return 2 / T times the quench energy, for as many independent points as the window is worth."""
    lost = 1.0 - 1.0 / members["effective_samples"]
    thermal = members.noise_temperature / 2.0 * np.where(lost > 0.0, lost, np.nan)
    return members["quench_energy"] / thermal


def _inverse_temperature_step(members: Members) -> Floats:
    steps = np.full(len(members.lr), np.nan)
    for index, (colder, hotter) in enumerate(pairwise(map(members.losses_at, range(len(members.lr))))):
        if min(len(colder), len(hotter)) >= _LEAST_LOSSES:
            steps[index] = inverse_temperature_step(colder, hotter)
    return steps


FROM_MEMBERS = (
    Derived("noise", "T of the noise", TEMPERATURE, lambda m: m.noise_temperature),
    Derived(
        "configurational", "configurational T", TEMPERATURE, _configurational,
        ("squared_loss_grad_norm", "hessian_trace"),
    ),
    Derived("heat_capacity", "heat capacity dU/dT", NATS, _heat_capacity),
    Derived(
        "fluctuation_capacity", "heat capacity Var(U)/T²", NATS,
        lambda m: m.variance / m.noise_temperature ** 2,
    ),
    Derived("effective_dimension", "effective dimension 2 dU/dT", "1", lambda m: 2.0 * _heat_capacity(m)),
    Derived(
        "quench_energy", "U less the loss at the window's mean", _LOSS, lambda m: m["quench_energy"],
        ("quench_energy",),
    ),
    Derived(
        "quench_dimension", "effective dimension by the quench", "1", _quench_dimension,
        ("quench_energy", "effective_samples"),
    ),
    Derived(
        "edge_ratio", "learning rate times half the largest curvature", "1",
        lambda m: m.step_size * m["largest_curvature"] / 2.0, ("largest_curvature",),
    ),
    Derived(
        "batch_edge_ratio", "learning rate times half the batch sharpness", "1",
        lambda m: m.step_size * m["batch_sharpness"] / 2.0, ("batch_sharpness",),
    ),
    Derived(
        "inverse_temperature_step", "1/T less that of the next learning rate", "nats per loss unit",
        _inverse_temperature_step,
    ),
)  # fmt: skip


def of_floor(members: Members, floor: float | None) -> list[Derived]:
    """Return the thermometers of a harmonic minimum of a depth."""
    if floor is None:
        return []
    depth, least = require_number("energy_floor", floor), np.nanmin(members.losses, initial=np.inf)
    if not depth < least:
        raise ValueError(f"energy_floor: must be below all stationary losses, {least:g}, not {depth:g}")
    return [
        Derived(
            "fluctuation", "T by fluctuations of U", TEMPERATURE,
            lambda m: m.variance / (m["energy"] - depth),
        ),
        Derived(
            "equipartition", "T by equipartition", TEMPERATURE,
            lambda m: 2.0 * (m["energy"] - depth) / (m.dim - 1),
        ),
    ]  # fmt: skip


def of_batch(sweep: xr.Dataset) -> list[Derived]:
    """Return what needs the size of the batches, which a sweep's configuration has."""
    if "config" not in sweep.attrs:
        return []
    size = RunConfig.from_toml(sweep.attrs["config"]).training.batch_size

    def noise_scale(members: Members) -> Floats:
        signal = members["squared_full_grad_norm"]
        scale: Floats = size * members["squared_noise"] / np.where(signal > 0.0, signal, np.nan)
        return scale

    return [Derived("noise_scale", "gradient noise scale", "samples", noise_scale)]


def of_path(fitted: NDArray[np.bool_]) -> list[Derived]:
    """Return the change of S from the first learning rate of the fit on, as measured and by the noise."""

    def measured(members: Members) -> Floats:
        return on_path(members["entropy"], fitted)

    def by_noise(members: Members) -> Floats:
        changes, known = np.full(len(fitted), np.nan), fitted & np.isfinite(members["energy"])
        changes[known] = _integral_of_inverse(members.noise_temperature[known], members["energy"][known])
        return changes

    return [
        Derived("entropy_change", "change of S", NATS, measured),
        Derived("noise_entropy_change", "integral of dU/T of the noise", NATS, by_noise),
    ]


def _integral_of_inverse(temperature: Floats, energy: Floats) -> Floats:
    """Return the integral of dU/T from the first point to each; exact where T is linear in U between them."""
    by_log, by_difference = np.diff(np.log(temperature)), np.diff(temperature)
    straight = np.abs(by_log) > 1e-6
    inverse = 1.0 / temperature[:-1]
    inverse[straight] = by_log[straight] / by_difference[straight]
    return np.concatenate([[0.0], np.cumsum(np.diff(energy) * inverse)])


def on_path(entropy: Floats, fitted: NDArray[np.bool_]) -> Floats:
    """Return the change of an entropy [lr] from the first fitted learning rate on, NaN at the others."""
    known = fitted & np.isfinite(entropy)
    return np.where(known, entropy - entropy[known][:1].sum(), np.nan)
