"""A finished sweep of a preset, and what follows from it."""

import math
from dataclasses import dataclass
from functools import cached_property

import xarray as xr

from pythermo.analysis.gradients import GradientLaw, gradient_law
from pythermo.analysis.temperatures import Analysis, analyze, estimate_of_fit
from pythermo.analysis.thermometers import read_thermometers
from pythermo.config.preset import Preset
from pythermo.estimators.temperature_estimate import TemperatureEstimate


@dataclass(frozen=True)
class Setup:
    """A finished sweep of a preset: one network on one data set.

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
    baseline : xarray.Dataset
        U and S of weights uniform on the sphere.
    """

    name: str
    title: str
    preset: Preset
    dataset: xr.Dataset
    baseline: xr.Dataset

    @property
    def order(self) -> tuple[float, float, str]:
        """Small networks first, of one network small training sets, and then by name."""
        images = self.preset.run.data.samples_per_class or math.inf
        return self.dataset.attrs["weights"], images, self.name

    @cached_property
    def analysis(self) -> Analysis:
        """Stationary values and temperatures, with the preset's range of the fit."""
        return analyze(self.dataset, self.preset.run.measurement.stationary, self.preset.fit)

    @cached_property
    def estimate(self) -> TemperatureEstimate | str:
        """The temperatures by convex regression over seeds, of the fit's range; or why there are none."""
        return estimate_of_fit(self.dataset, self.analysis.fit, self.preset.run.measurement.stationary)

    @cached_property
    def thermometers(self) -> xr.Dataset:
        """The temperatures by all thermometers: see `pythermo.thermometers`."""
        last = self.preset.run.measurement.stationary
        return read_thermometers(self.dataset, last, self.analysis.fit, self.estimate)

    @cached_property
    def gradient_law(self) -> GradientLaw:
        """How minibatch gradients fall with full ones."""
        return gradient_law(self.dataset)

    def by_neighbors(self) -> dict[int, Analysis]:
        """Return the analyses by the number of neighbors of the entropy."""
        last = self.preset.run.measurement.stationary
        return {
            k: analyze(self.dataset, last, self.preset.fit, k) for k in map(int, self.dataset["k"].values)
        }
