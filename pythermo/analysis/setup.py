"""A finished sweep of a preset, and what follows from it."""

import math
from dataclasses import dataclass
from functools import cached_property

import xarray as xr

from pythermo.analysis.gas_laws import GasAnalysis, analyze_gas
from pythermo.analysis.gradients import GradientLaw, gradient_law
from pythermo.analysis.regimes import Regime
from pythermo.analysis.stationary import second_axis, stationary
from pythermo.analysis.temperatures import Analysis, analyze, estimate_of_fit
from pythermo.analysis.thermometers import read_thermometers
from pythermo.config.preset import Preset
from pythermo.estimators.temperature_estimate import TemperatureEstimate


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes
    ----------
    members : int
        How many it has.
    unfinished : tuple of str
        Those of them that are not finished.
    iterations, all_iterations : int
        How many of the iterations of all members are done.
    failures : tuple of str
        The members that failed, each with the last line of its error.
    """

    members: int
    unfinished: tuple[str, ...]
    iterations: int
    all_iterations: int
    failures: tuple[str, ...]

    @property
    def finished(self) -> int:
        """How many are."""
        return self.members - len(self.unfinished)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, and something was."""
        return self.members > 0 and not self.unfinished


@dataclass(frozen=True)
class Waiting:
    """A sweep of which nothing has been measured yet.

    Attributes
    ----------
    name : str
        Of its folder.
    progress : Progress
        How far it is.
    """

    name: str
    progress: Progress


@dataclass(frozen=True)
class Setup:
    """A sweep of a preset: one network on one data set.

    Attributes
    ----------
    name : str
        Of its folder.
    title : str
        For people, different from that of all setups shown beside it.
    preset : Preset
        With its learning rates as they were stored.
    dataset : xarray.Dataset
        As `pythermo.sweep` returned it.
    baseline : xarray.Dataset, optional
        U and S of weights uniform on the sphere, where they were measured.
    progress : Progress
        How far it is.
    """

    name: str
    title: str
    preset: Preset
    dataset: xr.Dataset
    baseline: xr.Dataset | None
    progress: Progress

    @property
    def last(self) -> int:
        """Number of measurements that count as stationary."""
        return self.preset.run.measurement.stationary

    @property
    def is_gas(self) -> bool:
        """Whether it goes over weight decay or radii too."""
        return bool(second_axis(self.dataset))

    @cached_property
    def gas(self) -> GasAnalysis:
        """The states of a sweep over two axes, and their laws."""
        return analyze_gas(self.dataset, self.last)

    @property
    def order(self) -> tuple[float, float, str]:
        """Small networks first, of one network small training sets, and then by name."""
        images = self.preset.run.data.samples_per_class or math.inf
        return self.dataset.attrs["weights"], images, self.name

    @cached_property
    def analysis(self) -> Analysis:
        """Stationary values and temperatures, with the preset's range of the fit."""
        return analyze(self.dataset, self.last, self.preset.fit)

    @cached_property
    def stationary(self) -> xr.Dataset:
        """Stationary values, without regimes where there are no temperatures: of one learning rate, say."""
        try:
            return self.analysis.stationary
        except ValueError:
            values = stationary(self.dataset, self.last)
            return values.assign(regime=("lr", [Regime.UNKNOWN.value] * values.sizes["lr"]))

    @cached_property
    def estimate(self) -> TemperatureEstimate | str:
        """The temperatures by convex regression over seeds, of the fit's range; or why there are none."""
        return estimate_of_fit(self.dataset, self.analysis, self.last)

    @cached_property
    def thermometers(self) -> xr.Dataset:
        """The temperatures by all thermometers: see `pythermo.thermometers`."""
        return read_thermometers(self.dataset, self.last, self.analysis.fit, self.estimate)

    @cached_property
    def gradient_law(self) -> GradientLaw:
        """How minibatch gradients fall with full ones."""
        return gradient_law(self.dataset)

    def by_neighbors(self) -> dict[int, Analysis]:
        """Return the analyses by the number of neighbors of the entropy."""
        return {
            k: analyze(self.dataset, self.last, self.preset.fit, k)
            for k in map(int, self.dataset["k"].values)
        }
