"""A thermometer for a training loop of one's own: U, S, SNR and temperature along the way."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pythermo._checks import is_float, require_integer, require_number, require_values
from pythermo._parameters import count, flatten
from pythermo.config.preset import FIGURE_K
from pythermo.estimators.autocorrelation import effective_sample_size
from pythermo.estimators.gradient_noise import GradientNoise, gradient_noise_about_mean
from pythermo.estimators.trajectory_entropy import FEW_POINTS, TrajectoryEntropy
from pythermo.models.invariance import buffers_restored
from pythermo.models.layers import own_generator
from pythermo.training.reading import ThermometerReading
from pythermo.training.stepping import Stepping

# Beyond it a window is kept as sketches.
WINDOW_BYTES = 256 * 10**6
# Shares from which it is said that the radius moves, and that a gradient has a radial part.
_MOVES, _RADIAL = 0.01, 1e-2


@dataclass(frozen=True)
class _Minibatches:
    """What the minibatches of a reading gave; ``radial`` is the cosine of mean gradient and weights."""

    energy: float
    energy_error: float
    noise: GradientNoise
    radial: float


class Thermometer:
    """Measures the thermodynamics of a training loop from beside it; nothing of the training is changed.

    Parameters
    ----------
    params : iterable of Tensor
        The scale-invariant weights, all of them together on one sphere; of one dtype and device. See
        `pythermo.models.scale_invariant_parameters`, which finds and checks them.
    optimizer : torch.optim.Optimizer, optional
        What steps them: their learning rate is read from it at each step, so that schedules are followed.
    lr : float, optional
        Their learning rate, where there is no optimizer to be asked.
    minibatch_loss : callable, optional
        Returns the loss of a new minibatch at the current weights. From its gradients come SNR and T of the
        noise, at each `read`; ``.grad`` is left as it is. What it draws from torch's global generators is of
        the thermometer's own random numbers, and those of the training go on as if it had not been called;
        generators of Python, of numpy and of its own are its own affair.
    model : nn.Module, optional
        The network that ``minibatch_loss`` calls: its buffers, such as running statistics, are found again as
        they were.
    gradients : int
        How many minibatches a reading takes, at least 2.
    window : int
        How many iterates S is computed from, more than ``k``.
    stride : int
        Steps between them.
    k : int
        Number of neighbors of the entropy.

    Raises
    ------
    ValueError, TypeError
        For parameters that are no tensors of one floating dtype and device, that are not the optimizer's, or
        that have several learning rates there; neither or both of ``optimizer`` and ``lr``; numbers out of
        range.

    Notes
    -----
    On a sphere of fixed radius with plain SGD (`pythermo.ProjectedSGD`) this is what `pythermo.sweep`
    measures, but for U, which is the loss of minibatches here. Without projection it works for any optimizer:
    S is that of the directions w/|w|, and the effective learning rate follows from the radius. What does not
    hold then is said by a reading's remarks: while the radius grows the effective learning rate falls and
    there is no stationary state, and T of the noise presumes plain SGD.

    The window holds ``window * D`` numbers; where these take more than 256 MB it keeps sketches of them
    (`pythermo.ops.sketch`), whose error `pythermo.TrajectoryEntropy` states. A step costs a copy of the
    weights; entropies and gradients are computed at readings alone. Sources: arXiv 2505.23489 (S, SNR),
    2511.07308 (T of the noise).

    Examples
    --------
    >>> model = pt.models.initialize_(pt.models.ConvNet(2, in_channels=1))
    >>> params = pt.models.trained_parameters(model)
    >>> optimizer = pt.ProjectedSGD(params, lr=0.05)
    >>> thermometer = pt.Thermometer(params, optimizer, window=60, k=10)
    >>> for step in range(60):
    ...     loss = model(torch.randn(16, 1, 8, 8)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     thermometer.after_step(loss)
    >>> reading = thermometer.read()
    >>> reading.iteration, round(reading.radius, 6), reading.remarks[0]
    (60, 1.0, 'SNR and T of the noise: need minibatch_loss')
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        optimizer: Optimizer | None = None,
        *,
        lr: float | None = None,
        minibatch_loss: Callable[[], Tensor] | None = None,
        model: nn.Module | None = None,
        gradients: int = 30,
        window: int = 250,
        stride: int = 1,
        k: int = FIGURE_K,
    ) -> None:
        self._params = _weights(params)
        self._stepping = Stepping(self._params, optimizer, lr)
        self._minibatch_loss, self._model = minibatch_loss, model
        if minibatch_loss is not None and not callable(minibatch_loss):
            raise TypeError(f"minibatch_loss: must be called without arguments, not {minibatch_loss!r}")
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model: must be a torch.nn.Module, not {model!r}")
        self._gradients = require_integer("gradients", gradients, 2)
        self._dim = count(self._params)
        window = require_integer("window", window, 2)
        self._stride, k = require_integer("stride", stride, 1), require_integer("k", k, 1)
        if k >= window:
            raise ValueError(f"k: must be less than the {window} points of the window, not {k}")
        device = self._params[0].device
        sketch = _sketch_size(window, self._dim)
        self._window = TrajectoryEntropy(self._dim, window, [k], sketch=sketch, device=device)
        self._losses = torch.full((window * self._stride,), math.nan, dtype=torch.float64, device=device)
        self._norms = torch.full((window,), math.nan, dtype=torch.float64, device=device)
        self._rates = np.full(window * self._stride, math.nan)
        self._seed = torch.initial_seed()
        self._steps = 0

    def after_step(self, loss: Tensor | float | None = None) -> None:
        """Take note of the weights after a step of the optimizer.

        Parameters
        ----------
        loss : Tensor of one element or float, optional
            The loss of the step's minibatch, or whatever is to count as U; nothing waits for its device.

        Raises
        ------
        ValueError, TypeError
            For a loss of several elements, and a learning rate that is negative.
        """
        place = self._steps % len(self._losses)
        self._losses[place] = _one_number(loss)
        self._rates[place] = self._stepping.rate()
        self._steps += 1
        if self._steps % self._stride == 0:
            flat = flatten(self._params).float()
            norm = torch.linalg.vector_norm(flat, dtype=torch.float64)
            self._norms[(self._steps // self._stride - 1) % len(self._norms)] = norm
            self._window.append(flat / norm.float())

    def read(self) -> ThermometerReading:
        """Measure; this takes some tenths of a second and what ``gradients`` minibatches take.

        Raises
        ------
        ValueError
            For weights or gradients that are not finite.
        """
        here = flatten(self._params).double()
        radius = float(here.norm())
        if not (math.isfinite(radius) and radius > 0.0):
            raise ValueError(f"params: their norm must be positive and finite, not {radius}")
        estimate = self._window.estimate()
        losses = self._in_order(self._losses.cpu().numpy(), self._steps)
        norms = self._in_order(self._norms.cpu().numpy(), self._steps // self._stride)
        rates = self._in_order(self._rates, self._steps)
        rate = float(rates[-1]) if len(rates) else self._stepping.rate()
        effective = rate if self._stepping.rate_is_effective else rate / radius**2
        growth = float(norms[-1] / norms[0] - 1.0) if len(norms) > 1 else math.nan
        batches = None if self._minibatch_loss is None else self._measure_minibatches(here)
        energy, error = _mean_with_error(losses)
        if math.isnan(energy) and batches is not None:
            energy, error = batches.energy, batches.energy_error
        snr, rms = (
            (math.nan, math.nan) if batches is None else (batches.noise.snr, batches.noise.rms_noise_norm)
        )
        return ThermometerReading(
            iteration=self._steps,
            energy=energy,
            energy_error=error,
            entropy=float(estimate.entropy[0]),
            entropy_error=float(estimate.standard_error[0]),
            effective_samples=estimate.effective_samples,
            snr=snr,
            noise_temperature=effective * radius**2 * rms**2 / (2.0 * (self._dim - 1)),
            learning_rate=effective * radius**2,
            effective_learning_rate=effective,
            radius=radius,
            radius_growth=growth,
            remarks=tuple(self._remarks(estimate.effective_samples, growth, rates, batches, energy)),
        )

    def _in_order(self, ring: Any, written: int) -> Any:
        """Return what a ring buffer holds, the oldest first."""
        if written < len(ring):
            return ring[:written]
        return np.roll(ring, -(written % len(ring)))

    def _measure_minibatches(self, here: Tensor) -> "_Minibatches":
        restored = buffers_restored(self._model) if self._model is not None else nullcontext()
        with restored, self._own_random_numbers():
            losses, gradients = zip(*self._minibatches(), strict=True)
        mean = torch.stack(gradients).mean(dim=0, dtype=torch.float64)
        length = float(mean.norm())
        radial = abs(float(here @ mean)) / (float(here.norm()) * length) if length > 0.0 else 0.0
        error = float(np.std(losses, ddof=1) / np.sqrt(len(losses)))
        noise = gradient_noise_about_mean(list(gradients))
        return _Minibatches(float(np.mean(losses)), error, noise, radial)

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Let torch's global generators draw what depends on the seed and the step alone."""
        seed = int(np.random.SeedSequence([self._seed, self._steps]).generate_state(1, np.uint64)[0])
        devices = [one.get_device() for one in self._params[:1] if one.is_cuda]
        with own_generator(devices):
            for generator in (
                torch.default_generator,
                *map(torch.cuda.default_generators.__getitem__, devices),
            ):
                generator.manual_seed(seed)
            yield

    def _minibatches(self) -> Iterator[tuple[float, Tensor]]:
        """Yield losses and gradients [D]."""
        assert self._minibatch_loss is not None
        for _ in range(self._gradients):
            with torch.enable_grad():
                loss = self._minibatch_loss()
            if not (isinstance(loss, Tensor) and loss.requires_grad):
                raise TypeError(f"minibatch_loss: must return a loss that has a gradient, not {loss!r}")
            found = torch.autograd.grad(loss, self._params, allow_unused=True)
            if any(one is None for one in found):
                raise ValueError("minibatch_loss: its loss does not depend on some of params")
            yield float(loss.detach()), flatten(found).float()

    def _remarks(
        self, points: float, growth: float, rates: Any, batches: "_Minibatches | None", energy: float
    ) -> Iterator[str]:
        if batches is None:
            yield "SNR and T of the noise: need minibatch_loss"
        if math.isnan(energy):
            yield "U: needs a loss that is finite, given to each after_step of the window, or minibatch_loss"
        if not self._window.full:
            lacking = len(self._norms) * self._stride - self._steps
            yield f"S: its window is full in {lacking} steps"
        elif points < FEW_POINTS:
            yield (
                f"S: the window is worth {points:.2g} independent points, and S is that of a stretch of "
                "path; take a larger stride"
            )
        if abs(growth) > _MOVES:
            moving = "" if self._stepping.rate_is_effective else "the effective learning rate moves, and "
            yield f"the radius changed by {growth:.1%} over the window: {moving}the state is not stationary"
        if len(rates) and np.ptp(rates) > 1e-6 * rates.max():
            yield "the learning rate changed within the window: the state is not stationary"
        if batches is not None and batches.radial > _RADIAL:
            yield (
                f"the gradient has a radial part (cosine {batches.radial:.2g}): the weights are not "
                "scale-invariant, and S and T are not what they are called"
            )
        if self._stepping.other_than_sgd:
            yield f"T of the noise presumes plain SGD, without {self._stepping.other_than_sgd}"

    def state_dict(self) -> dict[str, Any]:
        """Return all that it needs to go on from here to the same readings."""
        return {
            "window": self._window.state_dict(),
            "losses": self._losses.cpu().clone(),
            "norms": self._norms.cpu().clone(),
            "rates": torch.from_numpy(self._rates.copy()),
            "seed": self._seed,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a thermometer of the same weights, window and stride.

        Raises
        ------
        ValueError
            For the state of another window, stride or number of weights; nothing is changed then.
        """
        if len(state["losses"]) != len(self._losses):
            raise ValueError(
                f"state: of a window that spans {len(state['losses'])} steps; this one spans "
                f"{len(self._losses)}"
            )
        self._window.load_state_dict(state["window"])
        self._losses.copy_(state["losses"])
        self._norms.copy_(state["norms"])
        self._rates[:] = state["rates"].numpy()
        self._seed, self._steps = int(state["seed"]), int(state["steps"])


def _weights(params: Any) -> list[Tensor]:
    if isinstance(params, nn.Module) or not isinstance(params, Iterable):
        raise TypeError(
            "params: must be an iterable of the scale-invariant weights, as "
            f"pythermo.models.scale_invariant_parameters finds them, not {type(params).__name__}"
        )
    given = list(params)
    if not given:
        raise ValueError("params: must hold the scale-invariant weights, not nothing")
    for one in given:
        if not (isinstance(one, Tensor) and is_float(one.dtype)):
            raise TypeError("params: must be tensors of float32 or float64")
        require_values("params", one)
    if len({id(one) for one in given}) < len(given):
        raise ValueError("params: one of them is listed twice")
    if len({(one.dtype, one.device) for one in given}) > 1:
        raise ValueError("params: must have one dtype and one device")
    if count(given) < 2:
        raise ValueError("params: must hold 2 weights at least")
    return given


def _sketch_size(window: int, dim: int) -> int | None:
    """Return how many numbers of each iterate are kept where all take too much memory."""
    if 4 * window * dim <= WINDOW_BYTES:
        return None
    return max(1, min(dim, WINDOW_BYTES // (8 * window)))


def _one_number(loss: Any) -> Tensor | float:
    if loss is None:
        return math.nan
    if not isinstance(loss, Tensor):
        return require_number("loss", loss)
    if loss.numel() != 1:
        raise ValueError(f"loss: must be one number, not of the shape {list(loss.shape)}")
    return loss.detach().reshape(())


def _mean_with_error(losses: Any) -> tuple[float, float]:
    """Return the mean of losses that were given and its standard error, by their correlation in time."""
    known = losses[np.isfinite(losses)]
    if len(known) < len(losses) or not len(known):
        return (math.nan, math.nan)
    if len(known) < 10 or np.ptp(known) == 0.0:
        return float(known.mean()), math.nan
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(effective_sample_size(known)))
