"""Scale-invariant networks: every trained weight may be scaled without changing the output."""

from pythermo.models.convnet import ConvNet
from pythermo.models.invariance import (
    ScaleInvariance,
    check_scale_invariance,
    scale_invariant_parameters,
)
from pythermo.models.layers import initialize_, trained_parameters
from pythermo.models.resnet import ResNet18

__all__ = [
    "ConvNet",
    "ResNet18",
    "ScaleInvariance",
    "check_scale_invariance",
    "initialize_",
    "scale_invariant_parameters",
    "trained_parameters",
]
