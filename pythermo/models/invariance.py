"""Is a network scale-invariant? A numerical check for the ones here and for a user's own."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pythermo._checks import require_not_negative, require_positive
from pythermo._parameters import flatten
from pythermo.models.layers import require_model, trained_parameters


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """Put the buffers of a model back as they were, running statistics among them."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, original in buffers:
            buffer.copy_(original)


@dataclass(frozen=True)
class ScaleInvariance:
    """Result of `check_scale_invariance`.

    Attributes
    ----------
    output_change : float
        Largest change of an output when the weights are scaled, over the outputs' root mean square.
    radial_gradient : float
        Cosine between weights and gradient, ``|<w, g>| / (|w| |g|)``.
    tolerance : float
        What both are allowed.
    """

    output_change: float
    radial_gradient: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether both numbers are within the tolerance."""
        return self.output_change <= self.tolerance and self.radial_gradient <= self.tolerance

    @property
    def reason(self) -> str:
        """One sentence that says what was found."""
        verdict = "scale-invariant" if self.ok else "NOT scale-invariant"
        return (
            f"{verdict}: scaling the weights changes the outputs by {self.output_change:.1e}, "
            f"the gradient's radial part is {self.radial_gradient:.1e} (allowed: {self.tolerance:.0e})"
        )


def check_scale_invariance(
    model: nn.Module,
    inputs: Tensor,
    params: Sequence[nn.Parameter] | None = None,
    factors: Sequence[float] = (0.5, 2.0, 3.0),
    tolerance: float = 1e-3,
) -> ScaleInvariance:
    """Check that ``f(c w) = f(w)`` and ``<w, grad> = 0`` for the trained weights of a model.

    Parameters
    ----------
    model : nn.Module
        In training mode or not, as it will be used. Left as it was found, buffers and ``.grad``
        included.
    inputs : Tensor [N, ...]
        A batch that the model takes, a few dozen samples or more.
    params : sequence of nn.Parameter, optional
        The weights that are scaled together; those that require a gradient if not given.
    factors : sequence of float
        Positive factors c.
    tolerance : float
        Allowed for both numbers; float32 rounding through some ten layers stays below 1e-3.

    Returns
    -------
    ScaleInvariance
        With ``ok`` and ``reason``.

    Raises
    ------
    ValueError, TypeError
        For arguments of another kind, a model without trained weights, one whose outputs are not finite or
        all zero or do not depend on ``params``, no factors, or
        factors that are not positive.

    Notes
    -----
    Source: arXiv 2505.23489. The loss whose gradient is taken is
    the mean of the outputs' inner product with fixed random numbers.
    """
    require_model(model)
    if not isinstance(inputs, Tensor) or inputs.ndim < 1:
        raise TypeError(f"inputs: must be a batch [N, ...], a tensor, not {inputs!r}")
    weights = trained_parameters(model) if params is None else _weights(params)
    if not weights:
        raise ValueError("params: the model has no trained weights")
    factors, tolerance = _factors(factors), require_not_negative("tolerance", tolerance)
    with buffers_restored(model):
        outputs = model(inputs)
        scale = outputs.detach().square().mean().sqrt()
        if not (float(scale) > 0.0 and bool(outputs.isfinite().all())):
            raise ValueError("model: its outputs must be finite and not all zero")
        random = torch.Generator().manual_seed(0)
        direction = torch.randn(outputs.shape, generator=random).to(outputs)
        loss = (outputs * direction).sum() / len(inputs)
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        if any(grad is None for grad in grads):
            raise ValueError("params: some are not weights that the model's outputs depend on")
        changes = [_output_change(model, inputs, outputs, weights, factor) / scale for factor in factors]
    flat_w, flat_g = flatten(weights).double(), flatten(grads).double()
    radial = float((flat_w @ flat_g).abs() / (flat_w.norm() * flat_g.norm()))
    return ScaleInvariance(float(torch.stack(changes).max()), radial, tolerance)


def scale_invariant_parameters(
    model: nn.Module, inputs: Tensor, tolerance: float = 1e-3
) -> dict[str, nn.Parameter]:
    """Find the weights of a model that may be scaled, all together, without changing its outputs.

    Parameters
    ----------
    model, inputs, tolerance
        As in `check_scale_invariance`, by which they are found.

    Returns
    -------
    dict of str to nn.Parameter
        By name: all that require a gradient where these together are scale-invariant; else those that are so
        alone, and then are so together.

    Notes
    -----
    It is looked for near the current weights, on a copy that is moved a little: the gain of a BatchNorm is
    scale-invariant as long as its bias is zero, and no longer.

    Raises
    ------
    ValueError, TypeError
        As `check_scale_invariance`, and if there are none.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    >>> list(scale_invariant_parameters(model, torch.randn(16, 1, 3, 3)))
    ['0.weight']
    """
    require_model(model)
    named = {name: param for name, param in model.named_parameters() if param.requires_grad}
    if not named:
        raise ValueError("model: has no trained weights")
    moved = _moved_a_little(model)
    copies = {name: param for name, param in moved.named_parameters() if param.requires_grad}
    if check_scale_invariance(moved, inputs, list(copies.values()), tolerance=tolerance).ok:
        return named
    found = {
        name: named[name]
        for name, param in copies.items()
        if check_scale_invariance(moved, inputs, [param], tolerance=tolerance).ok
    }
    if not found:
        raise ValueError(
            f"model, tolerance: none of its weights are scale-invariant within {tolerance:g}; those of "
            "convolutions that BatchNorm follows are"
        )
    return found


@torch.no_grad()
def _moved_a_little(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose weights are a tenth of their size away, and those that are zero too."""
    moved = copy.deepcopy(model)
    random = torch.Generator().manual_seed(0)
    for param in moved.parameters():
        size = param.double().square().mean().sqrt()
        noise = torch.randn(param.shape, generator=random).to(param)
        param.add_(noise, alpha=0.1 * float(size) or 0.1)
    return moved


def _weights(params: Any) -> list[nn.Parameter]:
    given = list(params) if isinstance(params, Iterable) else [params]
    if not all(isinstance(one, Tensor) and one.requires_grad for one in given):
        raise TypeError(f"params: must be parameters that require a gradient, not {params!r}")
    return given


def _factors(factors: Any) -> list[float]:
    if not isinstance(factors, Iterable):
        raise TypeError(f"factors: must be a sequence of numbers, not {factors!r}")
    found = [require_positive("factors", factor) for factor in factors]
    if not found:
        raise ValueError("factors: some are needed, all positive, not []")
    return found


@torch.no_grad()
def _output_change(
    model: nn.Module, inputs: Tensor, outputs: Tensor, weights: Sequence[nn.Parameter], factor: float
) -> Tensor:
    """Return the largest change of an output when the weights are scaled, which they are for the while."""
    originals = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.mul_(factor)
        scaled: Tensor = model(inputs)
        return (scaled - outputs).abs().max()
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.copy_(original)
