"""A sweep over learning rates and weight decay, or radii, as a gas: its stationary states, cell by cell."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import t as student

from pythermo._checks import require_open_unit
from pythermo.analysis.stationary import jackknife_error, require_sweep, second_axis, tail_of
from pythermo.analysis.temperatures import stationary_of
from pythermo.config.preset import FIGURE_K
from pythermo.config.schema import RunConfig
from pythermo.sphere.protocols import PROTOCOLS, Protocol, Sphere

# Means over the steps between two measurements, which weigh as many as these are.
_OF_STEPS = ("mean_r2", "mean_r4", "mean_r6", "mean_g2", "mean_r2_g2", "mean_r4_g2", "mean_next_r2")
_OF_MOMENTS = ("energy", "entropy", "log_radius", "noise_trace", "squared_signal")

# Growth of the norm over its decay farther from 1 is not that of a stationary state.
_SETTLED = 0.1


@dataclass(frozen=True)
class CellValue:
    """A value of a cell: its names, its unit, and how it follows from means and conditions."""

    name: str
    long_name: str
    unit: str
    value: Callable[["State"], xr.DataArray]


@dataclass(frozen=True)
class Gas:
    """The runs of a sweep as a gas, each at its learning rate, weight decay and radius.

    Attributes
    ----------
    means : xarray.Dataset [lr, seed] or [lr, weight_decay or radius, seed]
        Of each run, over its stationary measurements and the steps between them.
    protocol : Protocol
        The sweep's; on the sphere with the radii of the cells.
    weight_decay : DataArray or float
        Of the cells.
    dim : int
        Number of weights D.
    """

    means: xr.Dataset
    protocol: Protocol
    weight_decay: xr.DataArray | float
    dim: int

    @classmethod
    def of(cls, sweep: xr.Dataset, last: int | None = None, k: int = FIGURE_K) -> "Gas":
        """Return the gas of a sweep; see `gas`."""
        require_sweep(sweep)
        tail = tail_of(sweep, stationary_of(sweep) if last is None else last, k)
        lacking = [name for name in (*_OF_STEPS, *_OF_MOMENTS) if name not in tail]
        if lacking:
            raise ValueError(
                f"sweep: lacks {', '.join(lacking)}; only runs of this version of pythermo have the moments "
                "of their steps"
            )
        if sweep.sizes["iteration"] <= tail.sizes["iteration"]:
            raise ValueError("last: must leave a measurement before the first that counts as stationary")
        steps = xr.DataArray(np.diff(sweep["iteration"].values)[-tail.sizes["iteration"] :], dims="iteration")
        means = tail[list(_OF_MOMENTS)].mean("iteration", skipna=False)
        for name in _OF_STEPS:
            means[name] = (tail[name] * steps).sum("iteration", skipna=False) / steps.sum()
        training = RunConfig.from_toml(sweep.attrs["config"]).training
        named = PROTOCOLS[training.protocol]
        radius: Any = sweep["radius"] if "radius" in sweep.coords else training.radius
        return cls(
            means,
            named if named.in_full_space else Sphere(radius),
            sweep["weight_decay"] if "weight_decay" in sweep.coords else training.weight_decay,
            int(sweep.attrs["weights"]),
        )

    @property
    def axis(self) -> str:
        """What it goes over beside the learning rate; empty if nothing."""
        return second_axis(self.means)

    @property
    def settled(self) -> xr.DataArray:
        """The cells whose norm is stationary: it grows as much as it decays, within a tenth."""
        growth = self.state(self.means.mean("seed", skipna=False)).growth_over_decay
        return (growth >= 1.0 - _SETTLED) & (growth <= 1.0 + _SETTLED)

    def where_settled(self) -> "Gas":
        """Return the same with the means of all other cells not known."""
        return replace(self, means=self.means.where(self.settled))

    def state(self, means: xr.Dataset) -> "State":
        """Return the state of the cells with some means over seeds."""
        return State(means, self)

    def over_seeds(self, value_of: Callable[["State"], xr.Dataset], confidence: float = 0.9) -> xr.Dataset:
        """Return what follows from the means over seeds, each variable with its ``*_interval`` [..., bound].

        Student's t with the jackknife's error; NaN where there is one seed.
        """

        def of_seeds(runs: xr.Dataset) -> Any:
            return value_of(self.state(runs.mean("seed", skipna=False)))

        values: xr.Dataset = of_seeds(self.means)
        errors: Any = jackknife_error(of_seeds, self.means)
        width = student.ppf(0.5 + confidence / 2, max(self.means.sizes["seed"] - 1, 1))
        sides = xr.DataArray([-width, width], dims="bound", coords={"bound": ["low", "high"]})
        intervals = {
            f"{name}_interval": (values[name] + sides * errors[name]).transpose(..., "bound")
            for name in values.data_vars
        }
        return values.assign(intervals)


@dataclass(frozen=True)
class State:
    """The means of cells, and what they are at."""

    means: xr.Dataset
    gas: Gas = field(repr=False)

    def __getitem__(self, name: str) -> xr.DataArray:
        return self.means[name]

    @property
    def lr(self) -> xr.DataArray:
        """The learning rates of the cells."""
        return self.means["lr"]

    @property
    def temperature(self) -> xr.DataArray:
        """T of the noise (loss units per nat)."""
        gas = self.gas
        found: xr.DataArray = gas.protocol.temperature(
            self.lr, self["noise_trace"] / (gas.dim - 1), gas.dim, gas.weight_decay
        )
        return found

    @property
    def discrete_norm(self) -> xr.DataArray:
        """The norm that steps of their size lead to, by the mean of A, where theory has small ones."""
        found = self.gas.protocol.discrete_radius(self.lr, self["mean_r2_g2"], self.gas.weight_decay)
        return self._of_cells(found)

    @property
    def local_temperature(self) -> xr.DataArray:
        """T of the noise at the norm that was measured, not at that of an ideal gas (loss units per nat)."""
        found: xr.DataArray = self.gas.protocol.local_temperature(
            self.lr, self["noise_trace"] / (self.gas.dim - 1), self["mean_r2"] ** 0.5
        )
        return found

    @property
    def ideal_pressure(self) -> xr.DataArray:
        """(D - 1) T / r^2 of an ideal gas with this norm (loss units per weight unit^2)."""
        return (self.gas.dim - 1) * self.local_temperature / self["mean_r2"]

    @property
    def volume(self) -> xr.DataArray:
        """V = r^2 / 2 (weight units^2)."""
        return self["mean_r2"] / 2.0

    @property
    def pressure(self) -> xr.DataArray:
        """Weight decay or, on a sphere, p by the growth of the norm in a step (loss units/weight unit^2)."""
        gas = self.gas
        found = gas.protocol.pressure(self.lr, gas.weight_decay, self["mean_r2"], self["mean_next_r2"])
        return self._of_cells(found)

    @property
    def effective_lr(self) -> xr.DataArray:
        """The learning rate on the unit sphere."""
        found: xr.DataArray = self.gas.protocol.effective_lr(self.lr, self["mean_r2"] ** 0.5)
        return found

    def radius(self, squared_gradient: xr.DataArray) -> xr.DataArray:
        """Return the norm that theory has for a squared gradient on the unit sphere, to first order."""
        gas = self.gas
        found = gas.protocol.radius(self.lr, squared_gradient / (gas.dim - 1), gas.dim, gas.weight_decay)
        return self._of_cells(found)

    def _of_cells(self, value: Any) -> xr.DataArray:
        """Return a value, which may be one for all, as one of each cell."""
        found: xr.DataArray = xr.zeros_like(self["mean_r2"]) + value
        return found

    @property
    def squared_snr(self) -> xr.DataArray:
        """Squared full gradient over the noise's trace."""
        return self["squared_signal"] / self["noise_trace"]

    @property
    def growth_over_decay(self) -> xr.DataArray:
        """Growth of the norm by gradients over its loss by decay: 1 in a stationary state, in moments."""
        gas = self.gas
        found: xr.DataArray = gas.protocol.growth_over_decay(self.lr, gas.weight_decay, self.means)
        return found

    @property
    def relaxation_time(self) -> xr.DataArray:
        """Steps in which the norm forgets where it was: NaN on a sphere."""
        found = self.gas.protocol.relaxation_time(self.lr, self["mean_r2_g2"], self.gas.weight_decay)
        return self._of_cells(found)

    @property
    def sphere_entropy(self) -> xr.DataArray:
        """S of the directions alone (nats)."""
        return self["entropy"] - (self.gas.dim - 1) * self["log_radius"]

    @property
    def free_energy(self) -> xr.DataArray:
        """F = U - T S (loss units)."""
        return self["energy"] - self.temperature * self["entropy"]


_LOSS, _WEIGHT = "loss units", "weight units"

CELLS = (
    CellValue("energy", "training loss U", _LOSS, lambda s: s["energy"]),
    CellValue("entropy", "entropy S", "nats", lambda s: s["entropy"]),
    CellValue("sphere_entropy", "entropy S of the directions", "nats", lambda s: s.sphere_entropy),
    CellValue("norm", "rms norm r", _WEIGHT, lambda s: s["mean_r2"] ** 0.5),
    CellValue(
        "norm_predicted", "rms norm r by the mean of A, to first order", _WEIGHT,
        lambda s: s.radius(s["mean_r2_g2"]),
    ),
    CellValue(
        "norm_discrete", "norm r by the mean of A, of steps of their size", _WEIGHT, lambda s: s.discrete_norm
    ),
    CellValue(
        "norm_ideal", "norm r of an ideal gas, by the noise", _WEIGHT, lambda s: s.radius(s["noise_trace"])
    ),
    CellValue(
        "growth_over_decay", "growth of the norm over its decay, in moments", "1",
        lambda s: s.growth_over_decay,
    ),
    CellValue("effective_lr", "effective learning rate", "1", lambda s: s.effective_lr),
    CellValue(
        "noise_variance", "noise variance σ²", f"({_LOSS})²",
        lambda s: s["noise_trace"] / (s.gas.dim - 1),
    ),
    CellValue("squared_snr", "squared signal-to-noise ratio", "1", lambda s: s.squared_snr),
    CellValue("temperature", "T of the noise", "loss units per nat", lambda s: s.temperature),
    CellValue(
        "local_temperature", "T of the noise at the measured norm", "loss units per nat",
        lambda s: s.local_temperature,
    ),
    CellValue("pressure", "pressure p", "loss units per weight unit²", lambda s: s.pressure),
    CellValue(
        "pressure_ideal", "pressure (D - 1)T/r² of an ideal gas", "loss units per weight unit²",
        lambda s: s.ideal_pressure,
    ),
    CellValue("volume", "volume V = r²/2", f"{_WEIGHT}²", lambda s: s.volume),
    CellValue(
        "compressibility", "compressibility Z = 2pV/((D - 1)T)", "1",
        lambda s: s.pressure / s.ideal_pressure,
    ),
    CellValue("free_energy", "free energy F = U - TS", _LOSS, lambda s: s.free_energy),
    CellValue(
        "gibbs_energy", "Gibbs energy G = U - TS + pV", _LOSS, lambda s: s.free_energy + s.pressure * s.volume
    ),
    CellValue("relaxation_time", "relaxation time of the norm", "iterations", lambda s: s.relaxation_time),
)  # fmt: skip


def gas(sweep: xr.Dataset, last: int | None = None, k: int = FIGURE_K, confidence: float = 0.9) -> xr.Dataset:
    """Return the stationary states of a sweep as those of a gas, each value with its interval over seeds.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k and, where there are several, seed, weight_decay or
        radius: see `pythermo.sweep`.
    last : int, optional
        Number of measurements that count as stationary; the configuration's if not given.
    k : int
        Number of neighbors of the entropy.
    confidence : float
        Of the intervals, between 0 and 1.

    Returns
    -------
    xarray.Dataset
        With the dimensions lr and weight_decay or radius, and for each variable its ``*_interval``
        [..., bound]: ``energy`` U, ``entropy`` S, ``sphere_entropy`` without (D - 1) log r, ``norm`` r,
        ``norm_predicted`` by the mean squared gradient to first order, ``norm_discrete`` for steps of their
        size, ``norm_ideal`` by the noise alone,
        ``growth_over_decay``, which is 1 in a stationary state, ``effective_lr``, ``noise_variance``,
        ``squared_snr``, ``temperature``, ``local_temperature``, ``pressure``, ``pressure_ideal``, ``volume``,
        ``compressibility`` Z, which is 1 + squared_snr in theory, ``free_energy``, ``gibbs_energy``,
        ``relaxation_time``. Units are in their attributes. Beside them ``settled``: where growth_over_decay
        is 1 within a tenth.

    Raises
    ------
    TypeError, ValueError
        For what is no sweep, or one without the moments of its steps; for ``last`` and ``k`` that it does not
        have.

    Notes
    -----
    Ratios are those of means over the seeds. ``temperature`` is that of the protocol, which at a fixed
    learning rate presumes the norm of an ideal gas; ``local_temperature`` is half the effective learning rate
    at the measured norm times the noise's variance, equal to it in the other protocols. Z is by the latter:
    by the former it is the root of 1 + squared_snr at a fixed learning rate. Source: arXiv 2511.07308.

    Examples
    --------
    >>> cells = pt.gas(pt.load_sweep("out/gas/fixed-elr"))  # doctest: +SKIP
    >>> cells["compressibility"].sel(lr=0.01, method="nearest")  # doctest: +SKIP
    """
    confidence = require_open_unit("confidence", confidence)
    return cells_of(Gas.of(sweep, last, k), confidence)


def cells_of(own: Gas, confidence: float) -> xr.Dataset:
    """Return the values of all cells, as `gas` does."""

    def of(state: State) -> xr.Dataset:
        return xr.Dataset({one.name: one.value(state) for one in CELLS})

    found = own.over_seeds(of, confidence).assign(settled=own.settled)
    for one in CELLS:
        for name in (one.name, f"{one.name}_interval"):
            found[name].attrs = {"long_name": one.long_name, "units": one.unit}
    return found.assign_attrs(protocol=own.protocol.name, weights=own.dim)
