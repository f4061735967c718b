"""The network of a configuration: one of the package, or one of the user's own by its import path."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

import torch
from torch import nn

from pythermo import models
from pythermo.data import Images
from pythermo.experiment.config import ModelConfig, TrainingConfig
from pythermo.models.invariance import check_scale_invariance
from pythermo.models.layers import initialise_, own_generator, trained_parameters
from pythermo.models.losses import HEAD_NORMS

_CHECKED_IMAGES = 64


def build_model(config: ModelConfig, training: TrainingConfig, images: Images) -> nn.Module:
    """Return a network at its initial point, in training mode.

    Raises
    ------
    ValueError
        For a network of the user's own that cannot be imported or called, trains nothing, or is not
        scale-invariant.
    """
    with own_generator():  # the constructor draws an initialisation too, all of which bare parameters keep
        torch.default_generator.manual_seed(training.initial_seed)  # and not those of CUDA, which stay
        model = (
            _own_network(config, images)
            if config.is_own
            else _network_of_the_package(config, HEAD_NORMS[training.loss], images)
        )
    initialise_(model, training.initial_seed, training.head_seed, training.radius)
    if config.is_own:
        try:
            found = check_scale_invariance(model.train(), images.train_images[:_CHECKED_IMAGES].cpu())
        except (RuntimeError, ValueError) as error:
            shape = list(images.train_images.shape[1:])
            raise ValueError(
                f"model.name: {config.name} does not work on images of shape {shape}: {error}"
            ) from error
        if not found.ok:
            raise ValueError(
                f"model.name: {config.name} is {found.reason}; trained weights must be followed by a "
                "normalisation without affine parameters, all others must be left out by model.trained"
            )
    return model.train()


def _network_of_the_package(config: ModelConfig, head_norm: float, images: Images) -> nn.Module:
    network: Callable[..., nn.Module] = getattr(models, config.name)
    return network(
        config.width,
        in_channels=images.channels,
        num_classes=images.num_classes,
        head_norm=head_norm if config.head_norm is None else config.head_norm,
    )


def _own_network(config: ModelConfig, images: Images) -> nn.Module:
    network = _imported("model.name", config.name)
    try:
        model = network(in_channels=images.channels, num_classes=images.num_classes, **config.arguments)
    except TypeError as error:
        raise ValueError(
            f"model.arguments: {config.name} is called with in_channels, num_classes and "
            f"{sorted(config.arguments)}, which it does not take: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model.name: {config.name} must return a torch.nn.Module, not a {type(model).__name__}"
        )
    if config.trained is not None:
        is_trained = _imported("model.trained", config.trained)
        for name, param in model.named_parameters():
            param.requires_grad_(bool(is_trained(name, param)))
    if not trained_parameters(model):
        raise ValueError(f"model.trained: no parameter of {config.name} is trained")
    return model


def _imported(key: str, path: str) -> Any:
    """Return what lies at ``package.module:name``."""
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{key}: {path} cannot be imported ({error}); the form is package.module:name, "
            "and PYTHONPATH must hold the folder of the package"
        ) from error
    if not callable(found):
        raise ValueError(f"{key}: {path} must be callable, not a {type(found).__name__}")
    return found


def weights_of(model: nn.Module) -> int:
    """Return the number D of trained weights."""
    return sum(param.numel() for param in trained_parameters(model))


@torch.no_grad()
def set_weights_(params: list[nn.Parameter], point: torch.Tensor) -> None:
    """Overwrite parameters by the parts of a flat vector [D]."""
    for param, part in zip(params, point.split([param.numel() for param in params]), strict=True):
        param.copy_(part.view_as(param))
