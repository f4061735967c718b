"""What is measured along a run: each quantity's name, unit, meaning, source, and where its value comes from.

To add a quantity, add a row. Datasets, the cost estimate, tables and figures read what they need of it here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pythermo.training.measure import Measured

PAPER = "arXiv 2505.23489"


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
        "entropy", "entropy S", "nats", f"{PAPER}; of the last window of iterates",
        lambda m: m.window.entropy.tolist(), by_neighbors=True,
    ),
    Quantity(
        "entropy_error", "standard error of the entropy S", "nats", "block jackknife of the window",
        lambda m: m.window.standard_error.tolist(), by_neighbors=True,
    ),
    Quantity(
        "effective_samples", "independent iterates in the window", "1", "autocorrelation of the window",
        lambda m: m.window.effective_samples,
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
)  # fmt: skip

QUANTITIES = {quantity.name: quantity for quantity in _ALL}


def measured_numbers(neighbors: int) -> int:
    """Return how many numbers a measurement is, with entropies for so many numbers of neighbors k."""
    return sum(neighbors if quantity.by_neighbors else 1 for quantity in _ALL)
