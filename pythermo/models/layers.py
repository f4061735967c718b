"""What the networks share: normalization, the frozen head, the initial point."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pythermo._checks import require_integer, require_positive
from pythermo.ops import batch_norm_relu
from pythermo.optim import project_

# torch's default of 1e-5 is one percent and more of the variances that weights of norm 1 give: the
# network would then only nearly be scale-invariant. This is below the rounding of float32, and still
# keeps a channel of variance zero finite.
BATCH_NORM_EPS = 1e-12


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a normalization by the batch's own statistics, without trained parameters."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, affine=False, track_running_stats=False)


class NormReLU(nn.Module):
    """The same normalization, then max pooling of ``pool`` x ``pool`` pixels (1 or 2), then ReLU.

    The order of the last two gives the same bits either way; this one has fewer pixels for ReLU.
    """

    def __init__(self, channels: int, pool: int = 1) -> None:
        super().__init__()
        self.channels, self.pool = channels, pool

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, channels, H // pool, W // pool] of features [N, channels, H, W]."""
        features: Tensor = batch_norm_relu(x, self.pool, BATCH_NORM_EPS)
        return features

    def extra_repr(self) -> str:
        """Return what distinguishes it from others when printed."""
        return f"{self.channels}, pool={self.pool}"


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with padding 1 and no bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


_generator_lock = threading.RLock()


@contextmanager
def own_generator(devices: Sequence[int] = ()) -> Iterator[None]:
    """Let torch's global generators be seeded and drawn from here, by one thread at a time, and restore them.

    Those of the CPU and of CUDA devices by their numbers.
    """
    with _generator_lock, torch.random.fork_rng(devices=list(devices)):
        yield


class FrozenHead(nn.Linear):
    """A linear layer that is not trained, its weight matrix scaled to a given Frobenius norm."""

    def __init__(self, features: int, classes: int, norm: float, bias: bool) -> None:
        self._norm = require_positive("head_norm", norm)
        super().__init__(features, classes, bias=bias)
        self.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Draw PyTorch's default initialization anew and scale the weight matrix."""
        super().reset_parameters()
        project_([self.weight], self._norm)


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a model that require a gradient, in the order of the module."""
    require_model(model)
    return [param for param in model.parameters() if param.requires_grad]


def require_model(model: object) -> None:
    """Raise TypeError unless the argument ``model`` is a module of torch."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: must be a torch.nn.Module, not {type(model).__name__}")


def initialize_(model: nn.Module, seed: int = 1, head_seed: int = 4, radius: float = 1.0) -> nn.Module:
    """Draw a network's initial point and its frozen head from generators of their own.

    Each layer gets PyTorch's default initialization; then all trained weights together are scaled to
    norm ``radius``. torch's global random state is used for that and left as it was; other threads
    must not draw from it meanwhile, by making a layer for instance.

    Parameters
    ----------
    model : nn.Module
        Its modules are drawn anew by their ``reset_parameters``.
    seed, head_seed : int
        From 0 to 2^63 - 1. Seeds of the trained weights and of the heads (modules of type `FrozenHead`).
    radius : float
        Norm of all trained weights together, positive.

    Returns
    -------
    nn.Module
        ``model`` itself.

    Raises
    ------
    ValueError, TypeError
        For seeds or a radius out of range, no module, or one without trained weights.

    Notes
    -----
    Source: arXiv 2505.23489.
    """
    require_model(model)
    seed, head_seed = (
        require_integer(name, value, 0, 2**63 - 1)
        for name, value in (("seed", seed), ("head_seed", head_seed))
    )
    radius = require_positive("radius", radius)
    if not trained_parameters(model):
        raise ValueError("model: has no trained weights, those that require a gradient")
    heads = [module for module in model.modules() if isinstance(module, FrozenHead)]
    others = [module for module in model.modules() if not isinstance(module, FrozenHead)]
    devices = sorted({param.get_device() for param in model.parameters() if param.is_cuda})
    generators = [torch.default_generator, *(torch.cuda.default_generators[device] for device in devices)]
    with own_generator(devices):
        for modules, module_seed in ((others, seed), (heads, head_seed)):
            for generator in generators:
                generator.manual_seed(module_seed)
            for module in modules:
                reset: Any = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
    project_(trained_parameters(model), radius)
    return model


def require_images(x: Tensor, in_channels: int, least_side: int) -> None:
    """Raise unless ``x`` is a batch of images [N, in_channels, H, W] of enough pixels in a floating dtype."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x: must be a tensor of a floating dtype, not {found}")
    if x.ndim != 4 or x.shape[1] != in_channels or min(x.shape[2:]) < least_side:
        raise ValueError(
            f"x: must be images [N, {in_channels}, H, W] with sides of at least {least_side} pixels, "
            f"not {list(x.shape)}"
        )


def channels_last(x: Tensor) -> Tensor:
    """Return images [N, C, H, W] laid out as `torch.channels_last`, by operations that `vmap` knows.

    Those of one channel are copied too: their strides tell torch the layout.
    """
    rows = x.permute(0, 2, 3, 1)
    rows = rows.contiguous() if x.shape[1] > 1 else rows.clone(memory_format=torch.contiguous_format)
    return rows.permute(0, 3, 1, 2)
