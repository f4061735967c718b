"""Figures of the paper and of our own experiments: Datasets in, matplotlib Figure out."""

from pythermo.figures import _backend  # noqa: F401  # before all that imports matplotlib
from pythermo.figures.calibration import calibration, calibration_free_energies, calibration_gibbs
from pythermo.figures.gas import (
    gas_collapse,
    gas_compressibility,
    gas_gibbs,
    gas_gibbs_maps,
    gas_isentropes,
    gas_isotherms,
    gas_runs,
    gas_states,
)
from pythermo.figures.lemma import snr_near_an_optimum
from pythermo.figures.runs import (
    gradients_along_runs,
    stochastic_against_full_gradient,
    values_along_runs,
)
from pythermo.figures.stationarity import drifts
from pythermo.figures.style import save
from pythermo.figures.surface import thermodynamic_surface
from pythermo.figures.sweeps import (
    entropy_by_neighbors,
    signal_to_noise,
    stationary_values,
    temperature_decay,
    thermodynamics,
)
from pythermo.figures.thermometers import thermometers
from pythermo.figures.toy import toy_meridians, toy_runs, toy_spheres, toy_thermodynamics

__all__ = [
    "calibration",
    "calibration_free_energies",
    "calibration_gibbs",
    "drifts",
    "entropy_by_neighbors",
    "gas_collapse",
    "gas_compressibility",
    "gas_gibbs",
    "gas_gibbs_maps",
    "gas_isentropes",
    "gas_isotherms",
    "gas_runs",
    "gas_states",
    "gradients_along_runs",
    "save",
    "signal_to_noise",
    "snr_near_an_optimum",
    "stationary_values",
    "stochastic_against_full_gradient",
    "temperature_decay",
    "thermodynamic_surface",
    "thermodynamics",
    "thermometers",
    "toy_meridians",
    "toy_runs",
    "toy_spheres",
    "toy_thermodynamics",
    "values_along_runs",
]
