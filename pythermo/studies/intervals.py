"""Whether intervals of temperatures cover and jumps are found: many repetitions of what is known."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo import sphere
from pythermo._progress import ProgressBar
from pythermo.estimators.absolute_entropy import kozachenko_leonenko_entropy
from pythermo.estimators.temperature_estimate import estimate_temperature
from pythermo.reports.sections import Plot, Section, Table
from pythermo.studies.chains import SAMPLES, stationary_samples
from pythermo.studies.checks import Check

Floats = NDArray[np.float64]

REPETITIONS, SEEDS, _RESAMPLES = 400, 8, 200
# By dimension, the chains behind each seed, and learning rates of which the first and the last one only serve
# as neighbors: so few chains, or neighbors so near, that intervals are 5 to 20 % wide and thus wide against
# the bias of order lr, some 3 % of T at 0.03 in 16 dimensions.
CHAINS = {3: 64, 16: 4}
CHAIN_LRS = {3: 10.0 ** (-2.5 + np.arange(8) / 6), 16: 0.0316 * 1.17 ** np.arange(-11.0, 2.0)}
# Beyond it the bias of order lr is no longer small against the intervals.
_LARGEST_LR = 0.032

# A p-value below which U(S) is called not convex.
_NOT_CONVEX = 0.1
# What 400 repetitions of 90 % may show: 3 binomial deviations are 4.5 %, few seeds need a correction.
_MIDDLE, _APART = 91.5, 5.5


@dataclass(frozen=True)
class ClosedForm:
    """A convex U(S) of closed form: T = reference (lr / middle)^exponent, S = nats log(lr / middle).

    Seeds scatter by 0.3 of the step of U, and 0.1 of that of S, to the next learning rate, normally.
    """

    lr: Floats
    exponent: float = 1.2
    reference: float = 1e-3
    nats: float = 200.0

    @property
    def _relative(self) -> Floats:
        middle: float = np.sqrt(self.lr[0] * self.lr[-1])
        return self.lr / middle

    @property
    def temperature(self) -> Floats:
        """T [lr]."""
        return self.reference * self._relative**self.exponent

    @property
    def entropy(self) -> Floats:
        """S [lr] in nats."""
        entropy: Floats = self.nats * np.log(self._relative)
        return entropy

    @property
    def energy(self) -> Floats:
        """U [lr], the integral of T dS."""
        return self.nats / self.exponent * self.temperature

    @property
    def deviations(self) -> tuple[Floats, float]:
        """Of a seed's U [lr] and S."""
        step = self.nats * np.log(self.lr[1] / self.lr[0])
        return 0.3 * step * self.temperature, 0.1 * step

    def members(self, random: np.random.Generator, seeds: int = SEEDS) -> tuple[Floats, Floats]:
        """Draw U and S of members [lr, seed]."""
        of_energy, of_entropy = self.deviations
        shape = (len(self.lr), seeds)
        return (
            self.energy[:, None] + of_energy[:, None] * random.normal(size=shape),
            self.entropy[:, None] + of_entropy * random.normal(size=shape),
        )

    def height_of_jump(self, place: int, seeds: int = SEEDS) -> float:
        """Return by how much U rises at a learning rate that comes to lie above the chord of its neighbors.

        Above it by 4 standard errors of the point's own mean of U - T S.
        """
        left, right = place - 1, place + 1
        slope = (self.energy[right] - self.energy[left]) / (self.entropy[right] - self.entropy[left])
        chord = self.energy[left] + slope * (self.entropy[place] - self.entropy[left])
        of_energy, of_entropy = self.deviations
        error = np.hypot(of_energy[place], slope * of_entropy) / np.sqrt(seeds)
        return float(chord - self.energy[place] + 4 * error)


def closed_form_trials(repetitions: int = REPETITIONS, progress: bool = True) -> xr.Dataset:
    """Estimate the temperature of a closed form again and again, and of one with a jump.

    Returns
    -------
    xarray.Dataset
        By ``repetition``: whether the 90 % intervals hold the truth, ``point`` [repetition, lr] at the inner
        learning rates, ``exponent`` and ``reference``; ``p_value``, and ``jump_p_value`` with a point above
        the chord of its neighbors.
    """
    law = ClosedForm(np.geomspace(1e-3, 1e-1, 12))
    middle = len(law.lr) // 2
    points, others = [], []
    with ProgressBar(repetitions, progress) as bar:
        bar.describe("intervals, closed form")
        for repetition in range(repetitions):
            energy, entropy = law.members(np.random.default_rng(repetition))
            found = estimate_temperature(law.lr, energy, entropy, resamples=_RESAMPLES, seed=repetition)
            energy[middle] += law.height_of_jump(middle)
            jump = estimate_temperature(law.lr, energy, entropy, resamples=_RESAMPLES, seed=repetition)
            assert found.interval is not None
            assert found.exponent_interval is not None
            assert found.reference_interval is not None
            points.append(_within(found.interval[1:-1], law.temperature[1:-1]))
            others.append(
                [
                    _within(found.exponent_interval, law.exponent),
                    _within(found.reference_interval, law.reference),
                    found.convexity_p_value,
                    jump.convexity_p_value,
                ]
            )
            bar.update(1)
    columns = zip(
        ("exponent", "reference", "p_value", "jump_p_value"), np.array(others, float).T, strict=True
    )
    return xr.Dataset(
        {"point": (("repetition", "lr"), np.array(points))}
        | {name: ("repetition", values) for name, values in columns},
        coords={"lr": law.lr[1:-1]},
    )


def chain_trials(dim: int, chains: int, repetitions: int = REPETITIONS, progress: bool = True) -> xr.Dataset:
    """Go the whole way from few chains of isotropic noise by their entropies to T, again and again.

    Returns
    -------
    xarray.Dataset
        ``covered`` and ``width`` (of the 90 % interval, over T) by ``repetition`` and ``lr``, the inner ones
        up to 0.032.
    """
    system, minimum = sphere.IsotropicNoise(dim, 1.0), -np.eye(dim)[-1]
    shape = (repetitions, SEEDS, chains * SAMPLES)
    lrs, energy, entropy = CHAIN_LRS[dim], [], []
    with ProgressBar(round(float(np.sum(1.0 / lrs))), progress) as bar:
        bar.describe(f"intervals, chains, D = {dim}")
        for lr in lrs:
            found = stationary_samples(
                system, lr, int(5.0 / lr), minimum, repetitions * SEEDS * chains, seed=dim
            )
            energy.append(system.loss(found.points).reshape(shape).mean(axis=-1))
            clouds = found.points.reshape(-1, chains * SAMPLES, dim)
            entropies = [float(kozachenko_leonenko_entropy(one, geometry="sphere")) for one in clouds]
            entropy.append(np.reshape(entropies, shape[:2]))
            bar.update(round(1.0 / lr))
    kept = np.flatnonzero(lrs[1:-1] < _LARGEST_LR) + 1
    covered, width = [], []
    for one_energy, one_entropy in zip(np.stack(energy, 1), np.stack(entropy, 1), strict=True):
        estimate = estimate_temperature(lrs, one_energy, one_entropy, resamples=_RESAMPLES)
        assert estimate.interval is not None
        truth = system.temperature(lrs[kept])
        covered.append(_within(estimate.interval[kept], truth))
        width.append(np.diff(estimate.interval[kept], axis=1)[:, 0] / truth)
    return xr.Dataset(
        {
            "covered": (("repetition", "lr"), np.array(covered)),
            "width": (("repetition", "lr"), np.array(width)),
        },
        coords={"lr": lrs[kept]},
        attrs={"dim": dim, "chains": chains, "seeds": SEEDS},
    )


def _within(interval: Floats, truth: Floats | float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (interval[..., 0] <= truth) & (truth <= interval[..., 1])
    return inside


def closed_form_checks(trials: xr.Dataset) -> list[Check]:
    """Compare how often intervals cover, and jumps are found, with what they say."""
    at_points = 100 * trials["point"].mean("repetition").values
    worst = float(at_points[np.abs(at_points - _MIDDLE).argmax()])
    jumps, curves = (float(100 * (trials[name] < _NOT_CONVEX).mean()) for name in ("jump_p_value", "p_value"))
    return [
        Check("closed form: coverage at the worst learning rate beside 91.5 %", worst - _MIDDLE, _APART, "%"),
        *(
            Check(
                f"closed form: coverage of the {name} beside 91.5 %",
                float(100 * trials[name].mean()) - _MIDDLE, _APART, "%",
            )
            for name in ("exponent", "reference")
        ),
        Check("closed form: jumps not found", 100 - jumps, 10.0, "%"),
        Check("closed form: convex curves called not convex", curves, 10.0, "%"),
    ]  # fmt: skip


def chain_checks(trials: xr.Dataset) -> list[Check]:
    """Compare how often the intervals of the whole way cover with what they say."""
    at_points, name = 100 * trials["covered"].mean("repetition").values, f"chains, D = {trials.attrs['dim']}"
    return [
        Check(f"{name}: coverage beside 91.5 %", float(at_points.mean()) - _MIDDLE, _APART, "%"),
        Check(f"{name}: not covered at the worst learning rate", 100 - float(at_points.min()), 20.0, "%"),
        Check(
            f"{name}: median width of the intervals beside 12.5 %",
            float(100 * trials["width"].median()) - 12.5, 7.5, "%",
        ),
    ]  # fmt: skip


def intervals_section(closed: xr.Dataset, chains: list[xr.Dataset]) -> Section:
    """Return how often intervals cover at each learning rate."""
    words = (
        f"90 % intervals over {SEEDS} seeds, {closed.sizes['repetition']} repetitions: how often they hold "
        "the truth, at each learning rate. Chains: isotropic noise on the sphere, U and S of few chains for "
        "each seed, T beside lr sigma^2 / 2."
    )
    rows = [
        ["closed form", f"{lr:.3g}", f"{100 * share:.1f} %", ""] for lr, share in _shares(closed["point"])
    ]
    for one in chains:
        widths = 100 * one["width"].median("repetition").values
        rows += [
            [f"chains, D = {one.attrs['dim']}", f"{lr:.3g}", f"{100 * share:.1f} %", f"{width:.0f} %"]
            for (lr, share), width in zip(_shares(one["covered"]), widths, strict=True)
        ]
    covered = {"closed form": closed["point"]}
    covered |= {f"chains, D = {one.attrs['dim']}": one["covered"] for one in chains}
    return Section(
        "Intervals", [words], Table(["", "η", "covered", "width over T"], rows), plots=[_plot(covered)]
    )


def _plot(covered: dict[str, xr.DataArray]) -> Plot:
    from pythermo.reports.plots.studies import coverage_plot

    return Plot("How often 90 % intervals of T hold the truth.", partial(coverage_plot, covered))


def _shares(covered: xr.DataArray) -> list[tuple[float, float]]:
    return list(zip(covered["lr"].values, covered.mean("repetition").values, strict=True))
