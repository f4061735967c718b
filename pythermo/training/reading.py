"""What a thermometer of a training loop shows at a moment."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ThermometerReading:
    """What a thermometer shows; NaN where something is not known, for a reason that `remarks` has.

    Attributes
    ----------
    iteration : int
        Steps so far.
    energy, energy_error : float
        U, the mean of the losses that were given over the window's span (loss units), and its standard error
        in time. Losses of minibatches are those before their steps, of which they are part; where none were
        given, U is the mean over the minibatches of the reading.
    entropy, entropy_error : float
        S of the directions w/|w| in the window (nats) up to a constant of the architecture, and its standard
        error.
    effective_samples : float
        How many independent points the window is worth.
    snr : float
        Signal-to-noise ratio of the minibatch gradients.
    noise_temperature : float
        T of isotropic noise as strong as theirs (loss units per nat).
    learning_rate, effective_learning_rate : float
        That of a step, and that on the unit sphere, over the squared radius.
    radius, radius_growth : float
        The norm of the weights, and by what share it grew over the window.
    remarks : tuple of str
        What is not known, and what does not hold.
    """

    iteration: int
    energy: float
    energy_error: float
    entropy: float
    entropy_error: float
    effective_samples: float
    snr: float
    noise_temperature: float
    learning_rate: float
    effective_learning_rate: float
    radius: float
    radius_growth: float
    remarks: tuple[str, ...]

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """Return the numbers that are known by name, after a prefix, as loggers take them."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("iteration", "remarks")}
        return {f"{prefix}{name}": value for name, value in numbers.items() if math.isfinite(value)}

    def __str__(self) -> str:
        lines = [
            f"iteration {self.iteration}",
            f"U {self.energy:.5g} ± {self.energy_error:.1g}",
            f"S {self.entropy:.1f} ± {self.entropy_error:.1f} nats, of a window worth "
            f"{self.effective_samples:.3g} independent points",
            f"T of the noise {self.noise_temperature:.3g}, SNR {self.snr:.3g}",
            f"lr {self.learning_rate:.3g}, on the unit sphere {self.effective_learning_rate:.3g}",
            f"|w| {self.radius:.4g}, grown by {self.radius_growth:.2g} over the window",
        ]
        return "\n".join([*lines, *(f"* {remark}" for remark in self.remarks)])
