"""What is measured along a run: each quantity's name, unit, meaning, source, and where its value comes from.

To add a quantity, add a row. Datasets, the cost estimate, tables and figures read what they need of it here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pythermo.training.measure import Measured

PAPER, GAS_PAPER = "arXiv 2505.23489", "arXiv 2511.07308"


@dataclass(frozen=True)
class Quantity:
    """One measured quantity.

    Attributes
    ----------
    name : str
        Its name in Datasets.
    long_name, unit : str
        For people; the unit is "1" for pure numbers.
    source : str
        Where it is defined.
    value : callable
        Takes it from all that was measured of one iterate: a number, or one for each k of the entropies.
    by_neighbors : bool
        Whether there is one for each number of neighbors k.
    """

    name: str
    long_name: str
    unit: str
    source: str
    value: Callable[["Measured"], float | list[float]]
    by_neighbors: bool = False

    @property
    def label(self) -> str:
        """Meaning and unit, as an axis or a column is labeled."""
        return self.long_name if self.unit == "1" else f"{self.long_name} ({self.unit})"


_CURVATURE = "loss units per weight unit²"
_LOSS, _GRAD, _GRAD2 = "loss units", "loss units per weight unit", "(loss units per weight unit)²"

_WEIGHT, _STEPS = "weight units", "of every step since the measurement before"


def _trace(measured: "Measured") -> float:
    return measured.motion.radius**2 * measured.noise.rms_noise_norm**2


def _temperature(measured: "Measured") -> float:
    return measured.motion.conditions.temperature(_trace(measured))


def _pressure(measured: "Measured") -> float:
    steps = measured.motion.steps
    return measured.motion.conditions.pressure(steps.r2, steps.next_r2)


def _pressure_volume(measured: "Measured") -> float:
    return _pressure(measured) * measured.motion.steps.r2 / 2.0


def _compressibility(measured: "Measured") -> float:
    conditions, r2 = measured.motion.conditions, measured.motion.steps.r2
    thermal = (conditions.dim - 1) * conditions.local_temperature(_trace(measured), r2) / 2.0
    return _pressure_volume(measured) / thermal if thermal > 0.0 else math.nan


def _free_energy(measured: "Measured") -> list[float]:
    entropies, temperature = measured.motion.window.entropy.tolist(), _temperature(measured)
    return [measured.train.loss - temperature * entropy for entropy in entropies]


def _gibbs_energy(measured: "Measured") -> list[float]:
    return [free + _pressure_volume(measured) for free in _free_energy(measured)]


_ALL = (
    Quantity("loss", "training loss U", _LOSS, f"{PAPER}, section 3", lambda m: m.train.loss),
    Quantity("test_loss", "test loss", _LOSS, "U of the test images", lambda m: m.test.loss),
    Quantity(
        "train_accuracy", "share of training labels predicted", "1", "its definition",
        lambda m: m.train.accuracy,
    ),
    Quantity(
        "test_accuracy", "share of test labels predicted", "1", "its definition", lambda m: m.test.accuracy
    ),
    Quantity(
        "entropy", "entropy S", "nats",
        f"{PAPER}; of the last window of iterates: of their directions, and (D - 1) times the mean log |w|",
        lambda m: m.motion.window.entropy.tolist(), by_neighbors=True,
    ),
    Quantity(
        "entropy_error", "standard error of the entropy S", "nats", "block jackknife of the window",
        lambda m: m.motion.window.standard_error.tolist(), by_neighbors=True,
    ),
    Quantity(
        "effective_samples", "independent iterates in the window", "1", "autocorrelation of the window",
        lambda m: m.motion.window.effective_samples,
    ),
    Quantity("snr", "signal-to-noise ratio of the gradient", "1", f"{PAPER}, Lemma 1", lambda m: m.noise.snr),
    Quantity(
        "snr_l1", "signal-to-noise ratio by the mean noise norm", "1", f"{PAPER}, its older form",
        lambda m: m.noise.snr_l1,
    ),
    Quantity(
        "full_grad_norm", "norm of the full gradient |G|", _GRAD, PAPER, lambda m: m.noise.full_grad_norm
    ),
    Quantity(
        "squared_full_grad_norm", "squared norm of the full gradient |G|²", _GRAD2,
        "its unbiased estimate, which may be negative", lambda m: m.noise.squared_full_grad_norm,
    ),
    Quantity(
        "mean_grad_norm", "mean norm of minibatch gradients", _GRAD, PAPER, lambda m: m.noise.mean_grad_norm
    ),
    Quantity(
        "mean_squared_grad_norm", "mean squared norm of minibatch gradients", _GRAD2, PAPER,
        lambda m: m.noise.mean_squared_grad_norm,
    ),
    Quantity(
        "mean_noise_norm", "mean norm of the gradient noise", _GRAD, PAPER, lambda m: m.noise.mean_noise_norm
    ),
    Quantity(
        "rms_noise_norm", "root mean square of the gradient noise", _GRAD, PAPER,
        lambda m: m.noise.rms_noise_norm,
    ),
    Quantity(
        "quench_loss", "training loss at the window's mean, back on the sphere", _LOSS, "its definition",
        lambda m: m.quench_loss,
    ),
    Quantity(
        "squared_loss_grad_norm", "squared norm of the gradient of U itself |∇U|²", _GRAD2,
        "by evaluation batches, as U", lambda m: m.curvature.squared_gradient,
    ),
    Quantity(
        "hessian_trace", "trace of the Hessian of U", _CURVATURE, "Hutchinson 1990, by central differences",
        lambda m: m.curvature.trace,
    ),
    Quantity(
        "largest_curvature", "largest eigenvalue of the Hessian of U", _CURVATURE,
        "power iteration, by central differences", lambda m: m.curvature.largest,
    ),
    Quantity(
        "batch_sharpness", "curvature of minibatches' losses along their gradients", _CURVATURE,
        "Andreyev and Beneventano 2024, by central differences", lambda m: m.curvature.along_gradients,
    ),
    Quantity("radius", "norm of the weights r", _WEIGHT, "its definition", lambda m: m.motion.radius),
    Quantity(
        "log_radius", "mean of log r", "1", "over the window of iterates of the entropy",
        lambda m: m.motion.log_radius,
    ),
    Quantity("mean_r2", "mean of r²", f"{_WEIGHT}²", _STEPS, lambda m: m.motion.steps.r2),
    Quantity("mean_r4", "mean of r⁴", f"{_WEIGHT}⁴", _STEPS, lambda m: m.motion.steps.r4),
    Quantity("mean_r6", "mean of r⁶", f"{_WEIGHT}⁶", _STEPS, lambda m: m.motion.steps.r6),
    Quantity("mean_g2", "mean of A/r² = |g|²", _GRAD2, _STEPS, lambda m: m.motion.steps.g2),
    Quantity(
        "mean_r2_g2", "mean of A = r²|g|², the squared gradient on the unit sphere", f"({_LOSS})²", _STEPS,
        lambda m: m.motion.steps.r2_g2,
    ),
    Quantity(
        "mean_r4_g2", "mean of r²A", f"({_LOSS})² weight units²", _STEPS, lambda m: m.motion.steps.r4_g2
    ),
    Quantity(
        "mean_w_g", "mean of ⟨w, g⟩, 0 for a scale-invariant loss", _LOSS, _STEPS,
        lambda m: m.motion.steps.w_g,
    ),
    Quantity(
        "mean_next_r2", "mean of |w|² after a step, before it is brought back to a sphere", f"{_WEIGHT}²",
        _STEPS, lambda m: m.motion.steps.next_r2,
    ),
    Quantity(
        "noise_trace", "trace of the gradients' covariance on the unit sphere Tr Σ = r² mean|g - G|²",
        f"({_LOSS})²", GAS_PAPER, _trace,
    ),
    Quantity(
        "squared_signal", "squared full gradient on the unit sphere r²|G|²", f"({_LOSS})²",
        "its unbiased estimate, which may be negative",
        lambda m: m.motion.radius**2 * m.noise.squared_full_grad_norm,
    ),
    Quantity(
        "noise_temperature", "T of the noise", "loss units per nat", f"{GAS_PAPER}, by the run's protocol",
        _temperature,
    ),
    Quantity(
        "pressure", "pressure p", "loss units per weight unit²",
        f"{GAS_PAPER}: weight decay, or on the sphere (mean|w'|² - r²)/(2 lr r²) by norms before and after "
        "a step",
        _pressure,
    ),
    Quantity(
        "volume", "volume V = r²/2", f"{_WEIGHT}²", f"{GAS_PAPER}, {_STEPS}",
        lambda m: m.motion.steps.r2 / 2.0,
    ),
    Quantity(
        "compressibility", "compressibility Z = 2pV/((D - 1)T), 1 + SNR² in theory", "1",
        f"{GAS_PAPER}; by T at the measured norm",
        _compressibility,
    ),
    Quantity(
        "free_energy", "free energy F = U - TS by T of the noise", _LOSS, GAS_PAPER, _free_energy,
        by_neighbors=True,
    ),
    Quantity(
        "gibbs_energy", "Gibbs energy G = U - TS + pV by T of the noise", _LOSS, GAS_PAPER, _gibbs_energy,
        by_neighbors=True,
    ),
)  # fmt: skip

QUANTITIES = {quantity.name: quantity for quantity in _ALL}


def measured_numbers(neighbors: int) -> int:
    """Return how many numbers a measurement is, with entropies for so many numbers of neighbors k."""
    return sum(neighbors if quantity.by_neighbors else 1 for quantity in _ALL)
