"""A finished sweep of a preset, and what follows from it."""

import math
from dataclasses import dataclass
from functools import cached_property

import xarray as xr

from pythermo.analysis.gradients import GradientLaw, gradient_law
from pythermo.analysis.temperatures import Analysis, analyze
from pythermo.config.preset import Preset


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
    def gradient_law(self) -> GradientLaw:
        """How minibatch gradients fall with full ones."""
        return gradient_law(self.dataset)

    def by_neighbors(self) -> dict[int, Analysis]:
        """Return the analyses by the number of neighbors of the entropy."""
        last = self.preset.run.measurement.stationary
        return {
            k: analyze(self.dataset, last, self.preset.fit, k) for k in map(int, self.dataset["k"].values)
        }
