from .simulator import PAPER_START, draws, resume, simulate
from .systems import (
    IsotropicNoise,
    Quadratics,
    System,
    overparameterized,
    underparameterized,
)
from .theory import (
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
