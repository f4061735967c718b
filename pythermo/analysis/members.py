"""What thermometers read: the stationary means of a sweep's members, and intervals over their seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import t as student

from pythermo._checks import Floats
from pythermo.analysis.stationary import tail_of
from pythermo.config.schema import RunConfig, TrainingConfig
from pythermo.sphere.protocols import PROTOCOLS

# What a sweep over two axes has of one of them, once one of its values is taken.
_SECOND = ("weight_decay", "radius")
_NEEDED = ("energy", "entropy", "squared_noise")


@dataclass(frozen=True)
class Members:
    """Stationary means of the members of a sweep, by ascending learning rate; NaN where one is not known.

    Attributes
    ----------
    means : xarray.Dataset [lr, seed]
        Of what was measured, as in the sweep but for ``energy`` (U), ``entropy`` (S), ``squared_noise`` and
        ``quench_energy``.
    losses : array [lr, seed, n]
        U of each of the measurements.
    dim : int
        Number of weights D.
    training : TrainingConfig, optional
        How they were trained; on a sphere if it is not known.
    """

    means: xr.Dataset
    losses: Floats
    dim: int
    training: TrainingConfig | None = None

    @classmethod
    def of(cls, sweep: xr.Dataset, last: int, k: int) -> "Members":
        """Return the members of a sweep; those without U, S or noise are not known."""
        tail = tail_of(sweep.sortby("lr"), last, k).transpose("lr", "seed", "iteration", ...)
        tail["squared_noise"] = tail["rms_noise_norm"] ** 2
        if "quench_loss" in tail:
            tail["quench_energy"] = tail["energy"] - tail["quench_loss"]
        means = tail.mean("iteration", skipna=False)
        known = means[list(_NEEDED)].to_array().notnull().all("variable")
        means = means[[name for name, one in means.items() if one.notnull().any()]]
        losses = np.where(known.values[..., None], tail["energy"].values, np.nan)
        training = None
        if "config" in sweep.attrs:
            config = RunConfig.from_toml(sweep.attrs["config"])
            taken = {f"training.{axis}": float(sweep[axis]) for axis in _SECOND if axis in sweep.coords}
            training = config.changed(**taken).training
        return cls(means.where(known), losses, int(sweep.attrs["weights"]), training)

    def __getitem__(self, name: str) -> Floats:
        """Return the mean over the seeds that are known [lr]."""
        return _of_known(np.nanmean, self.means[name].values)

    @property
    def lr(self) -> Floats:
        """The learning rates [lr]."""
        rates: Floats = self.means["lr"].values
        return rates

    @property
    def in_full_space(self) -> bool:
        """Whether their norms are free."""
        return self.training is not None and PROTOCOLS[self.training.protocol].in_full_space

    @property
    def step_size(self) -> Floats:
        """What a gradient is multiplied by in a step [lr]: at a fixed effective learning rate, lr r^2."""
        if self.training is None or not self.in_full_space:
            return self.lr
        sizes: Floats = PROTOCOLS[self.training.protocol].step_size(self.lr, self["radius"])
        return sizes

    @property
    def noise_temperature(self) -> Floats:
        """The temperature of isotropic noise as strong as that of the gradients, by the protocol [lr]."""
        if self.training is None or not self.in_full_space:
            return self.lr * self["squared_noise"] / (2.0 * (self.dim - 1))
        protocol, variance = PROTOCOLS[self.training.protocol], self["noise_trace"] / (self.dim - 1)
        found: Floats = protocol.temperature(self.lr, variance, self.dim, self.training.weight_decay)
        return found

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which members are known [lr, seed]."""
        which: NDArray[np.bool_] = np.isfinite(self.losses).min(axis=2, initial=True)
        return which

    @property
    def variance(self) -> Floats:
        """The variance of U over measurements and seeds, about their common mean [lr]."""
        return _of_known(np.nanvar, self.losses.reshape(len(self.lr), -1))

    def losses_at(self, index: int) -> Floats:
        """Return all losses that are known at a learning rate [n]."""
        losses: Floats = self.losses[index][self.known[index]].ravel()
        return losses

    def interval(
        self,
        value_of: Callable[["Members"], Floats],
        confidence: float,
        known: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Return the intervals [n, 2] over seeds of the values [n] that a function makes of members.

        Student's t with the jackknife's error; NaN where fewer than two seeds are ``known`` [n, seed]: those
        of each learning rate if not given.
        """
        value, known = value_of(self), self.known if known is None else known
        seeds, count = range(known.shape[1]), known.sum(axis=1)
        if len(seeds) == 1:
            return np.full((len(value), 2), np.nan)
        left_out = np.stack(
            [np.where(known[:, one], value_of(self._without(one)), 0.0) for one in seeds], axis=1
        )
        # A seed without which there is no value leaves the interval unknown, as a second one that lacks does.
        usable = (count > 1) & np.isfinite(left_out).all(axis=1)
        mean = left_out[usable].sum(axis=1, keepdims=True) / count[usable, None]
        squares = np.where(known[usable], left_out[usable] - mean, 0.0) ** 2
        error = np.sqrt(squares.sum(axis=1) * (count[usable] - 1) / count[usable])
        half = np.full(len(value), np.nan)
        half[usable] = error * student.ppf(0.5 + confidence / 2, count[usable] - 1)
        return np.stack([value - half, value + half], axis=1)

    def _without(self, seed: int) -> "Members":
        means, losses = self.means.drop_isel(seed=seed), np.delete(self.losses, seed, axis=1)
        return replace(self, means=means, losses=losses)


def _of_known(statistic: Callable[..., Floats], values: Floats) -> Floats:
    """Return a statistic of the known values in each row; NaN, and no warning, where there is none."""
    rows = np.isfinite(values).any(axis=1)
    result = np.full(len(values), np.nan)
    result[rows] = statistic(values[rows], axis=1)
    return result
