"""The network of a configuration: one of the package, or one of the user's own by its import path."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

import torch
from torch import nn

from pythermo import models
from pythermo.config.schema import OwnNetwork, PackageNetwork, RunConfig
from pythermo.data import Images
from pythermo.models.invariance import check_scale_invariance
from pythermo.models.layers import initialize_, own_generator, trained_parameters
from pythermo.models.losses import HEAD_NORMS

_CHECKED_IMAGES = 64


def build_network(config: RunConfig, images: Images) -> nn.Module:
    """Return the network of a configuration at its initial point, in training mode.

    Raises
    ------
    ValueError
        For a network of the user's own that cannot be imported or called, trains nothing, or is not
        scale-invariant.
    """
    training = config.training
    with own_generator():  # the constructor draws an initialization too, all of which bare parameters keep
        torch.default_generator.manual_seed(training.initial_seed)  # and not those of CUDA, which stay
        if isinstance(config.model, OwnNetwork):
            model = _own_network(config.model, images)
        else:
            model = _network_of_the_package(config.model, HEAD_NORMS[training.loss], images)
    initialize_(model, training.initial_seed, training.head_seed, training.radius)
    if isinstance(config.model, OwnNetwork):
        _require_scale_invariance(model.train(), config.model.path, images)
    return model.train()


def _require_scale_invariance(model: nn.Module, path: str, images: Images) -> None:
    try:
        found = check_scale_invariance(model, images.train_images[:_CHECKED_IMAGES].cpu())
    except (RuntimeError, ValueError) as error:
        shape = list(images.train_images.shape[1:])
        raise ValueError(f"model.path: {path} does not work on images of shape {shape}: {error}") from error
    if not found.ok:
        raise ValueError(
            f"model.path: {path} is {found.reason}; trained weights must be followed by a "
            "normalization without affine parameters, all others must be left out by model.trained"
        )


def _network_of_the_package(config: PackageNetwork, head_norm: float, images: Images) -> nn.Module:
    network: Callable[..., nn.Module] = getattr(models, config.name)
    return network(
        config.width,
        in_channels=images.channels,
        num_classes=images.num_classes,
        head_norm=head_norm if config.head_norm is None else config.head_norm,
    )


def _own_network(config: OwnNetwork, images: Images) -> nn.Module:
    network = _imported("model.path", config.path)
    try:
        model = network(in_channels=images.channels, num_classes=images.num_classes, **config.arguments)
    except TypeError as error:
        raise ValueError(
            f"model.arguments: {config.path} is called with in_channels, num_classes and "
            f"{sorted(config.arguments)}, which it does not take: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model.path: {config.path} must return a torch.nn.Module, not a {type(model).__name__}"
        )
    if config.trained is not None:
        is_trained = _imported("model.trained", config.trained)
        for name, param in model.named_parameters():
            param.requires_grad_(bool(is_trained(name, param)))
    if not trained_parameters(model):
        raise ValueError(f"model.trained: no parameter of {config.path} is trained")
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
