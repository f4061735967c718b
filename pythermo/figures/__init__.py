"""Figures of the paper and of our own experiments: Datasets in, matplotlib Figure out."""

from pythermo.figures.calibration import calibration
from pythermo.figures.style import save
from pythermo.figures.sweeps import (
    entropy_by_neighbours,
    stationary_values,
    temperature_decay,
    thermodynamics,
)
from pythermo.figures.toy import toy_runs, toy_spheres, toy_thermodynamics

__all__ = [
    "calibration",
    "entropy_by_neighbours",
    "save",
    "stationary_values",
    "temperature_decay",
    "thermodynamics",
    "toy_runs",
    "toy_spheres",
    "toy_thermodynamics",
]
