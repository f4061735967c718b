"""Small systems on the sphere, a simulator of their SGD, and the thermodynamics that is known exactly."""

from pythermo.sphere.simulator import PAPER_START, draws, resume, simulate
from pythermo.sphere.systems import (
    IsotropicNoise,
    Quadratics,
    System,
    overparameterized,
    underparameterized,
)
from pythermo.sphere.theory import (
    ideal_gas,
    von_mises_fisher_energy,
    von_mises_fisher_entropy,
)

__all__ = [
    "PAPER_START",
    "IsotropicNoise",
    "Quadratics",
    "System",
    "draws",
    "ideal_gas",
    "overparameterized",
    "resume",
    "simulate",
    "underparameterized",
    "von_mises_fisher_energy",
    "von_mises_fisher_entropy",
]
