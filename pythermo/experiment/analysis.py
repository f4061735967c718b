"""From a sweep's measurements to stationary values, temperatures and the summary that people read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.experiment.config import FIGURE_K, FitConfig, PublishedLaw
from pythermo.experiment.regimes import Regime, longest_stretch, regimes
from pythermo.temperature import PowerLaw, TemperatureFit, fit_temperature


def stationary(sweep: xr.Dataset, last: int, k: int = FIGURE_K) -> xr.Dataset:
    """Return mean and standard deviation over the last measurements of each run.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k.
    last : int
        Number of measurements that count as stationary.
    k : int
        Number of neighbours of the entropy.

    Returns
    -------
    xarray.Dataset
        ``energy``, ``entropy`` (nats), their ``*_std``, and ``snr``, with the dimension lr. The SNR is
        the root of mean |G|^2 over mean noise squared: single estimates of |G|^2 may be negative, and
        leaving these out would be a bias. NaN where even their mean is negative.

    Raises
    ------
    ValueError
        For a ``k`` or a number of measurements that the sweep does not have.

    Notes
    -----
    Source: arXiv 2505.23489. Whether a run is stationary is not checked here.
    """
    if k not in sweep["k"]:
        raise ValueError(f"k: the sweep has no entropies for {k} neighbours, but for {sweep['k'].values}")
    if not 1 <= last <= sweep.sizes["iteration"]:
        raise ValueError(f"last: must lie between 1 and {sweep.sizes['iteration']}, not {last}")
    tail = sweep.isel(iteration=slice(-last, None))
    result = xr.Dataset()
    for name, values in (("energy", tail["loss"]), ("entropy", tail["entropy"].sel(k=k, drop=True))):
        result[name] = values.mean("iteration", skipna=False)
        result[f"{name}_std"] = values.std("iteration", skipna=False)
    signal = tail["squared_full_grad_norm"].mean("iteration")
    noise = (tail["rms_noise_norm"] ** 2).mean("iteration")
    result["snr"] = (signal.where(signal >= 0.0) / noise) ** 0.5
    return result


@dataclass(frozen=True)
class Analysis:
    """A sweep's stationary values and its temperatures.

    Attributes
    ----------
    stationary : xarray.Dataset
        Of all learning rates: see `stationary`; and their ``regime``: see `Regime`.
    fit : TemperatureFit
        Of the learning rates of the fit's range.
    range_of_fit : str
        Where that range comes from.
    full_gradient : str
        What the SNR took for the full gradient: "mean" of minibatch gradients or "evaluation" batches.
    """

    stationary: xr.Dataset
    fit: TemperatureFit
    range_of_fit: str
    full_gradient: str


def analyse(sweep: xr.Dataset, last: int, settings: FitConfig, k: int = FIGURE_K) -> Analysis:
    """Find the temperatures of a sweep in a range of its learning rates.

    Parameters
    ----------
    sweep : xarray.Dataset
        Measurements with the dimensions lr, iteration, k.
    last : int
        Number of measurements that count as stationary.
    settings : FitConfig
        First and last index of the range, and the tolerance in the energy.
    k : int
        Number of neighbours of the entropy.

    Raises
    ------
    ValueError
        For a range that holds fewer than two learning rates of the sweep.
    """
    values = stationary(sweep, last, k)
    values["regime"] = "lr", regimes(sweep, last, k)
    chosen, origin = _range_of_fit(values["regime"].values, settings)
    ranged = values.isel(lr=chosen)
    fit = fit_temperature(
        ranged["lr"].values, ranged["energy"].values, ranged["entropy"].values, settings.tolerance
    )
    off_hull = np.isin(values["lr"], fit.lr[~fit.feasible]) & (values["regime"] == Regime.EQUILIBRIUM)
    values["regime"] = values["regime"].where(~off_hull, Regime.JUMP.value)
    return Analysis(values, fit, origin, str(sweep.attrs["full_gradient"]))


def _range_of_fit(regime: NDArray[np.str_], settings: FitConfig) -> tuple[slice, str]:
    """Return the learning rates of the fit, and where they come from."""
    count = len(regime)
    if settings.first is not None or settings.last is not None:
        first, last = settings.first or 0, -1 if settings.last is None else settings.last
        chosen = slice(*slice(first, last + 1 or None).indices(count))
        if chosen.stop - chosen.start < 2:
            raise ValueError(
                f"fit: the range {first} ... {last} holds {max(chosen.stop - chosen.start, 0)} of the "
                f"sweep's {count} learning rates; at least 2 are needed"
            )
        return chosen, "as given"
    chosen = longest_stretch(regime == Regime.EQUILIBRIUM)
    if chosen.stop - chosen.start < 2:
        return slice(0, count), "all, for no two neighbouring learning rates are in equilibrium"
    return chosen, "those in equilibrium"


def late_gradient_norms(sweep: xr.Dataset, runs: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |G| and mean |g| of the later half of the measurements at the smallest learning rates.

    There gradients fall as a network converges. Estimates of |G| that are not positive are left out.
    """
    late = sweep.isel(lr=slice(0, runs), iteration=slice(sweep.sizes["iteration"] // 2, None))
    full, stochastic = late["full_grad_norm"].values.ravel(), late["mean_grad_norm"].values.ravel()
    known = full > 0.0
    return full[known], stochastic[known]


def power_law_text(fit: TemperatureFit) -> str:
    """Return the power law of a fit with the standard errors of its parameters."""
    if not np.isfinite(fit.exponent_stderr):
        return f"none, for {fit.fitted.sum()} points between the first and the last are too few"
    return (
        f"T = ({fit.prefactor:.2e} ± {fit.prefactor_stderr:.1e}) · η^"
        f"({fit.exponent:.2f} ± {fit.exponent_stderr:.2f})"
    )


def table(analysis: Analysis) -> str:
    """Return the Markdown table eta, U, S, T, interval, SNR, with remarks on the points of the fit."""
    lines = [
        "| η | U | S (nats) | T | interval of T | SNR | regime | remark |",
        "|---|---|---|---|---|---|---|---|",
    ]
    fit, values = analysis.fit, analysis.stationary
    for row in range(values.sizes["lr"]):
        one = values.isel(lr=row)
        lr = float(one["lr"])
        temperature, interval, remark = "", "", "outside the fit"
        found: NDArray[np.intp] = np.flatnonzero(fit.lr == lr)
        if len(found):
            i = found[0]
            temperature = f"{fit.temperature[i]:.3g}"
            interval = f"{fit.lower[i]:.3g} ... {fit.upper[i]:.3g}"
            remark = "" if fit.feasible[i] else "above the convex hull: no T makes it the minimiser"
        elif lr in fit.excluded:
            remark = "left out: U or S is not known"
        lines.append(
            f"| {lr:.4g} | {float(one['energy']):.4g} ± {float(one['energy_std']):.2g} "
            f"| {float(one['entropy']):.0f} ± {float(one['entropy_std']):.0f} "
            f"| {temperature} | {interval} | {float(one['snr']):.3g} | {one['regime'].item()} | {remark} |"
        )
    return "\n".join(lines)


def summary(
    titled: Mapping[str, Analysis],
    k: int = FIGURE_K,
    published: Mapping[str, PublishedLaw] | None = None,
    baselines: Mapping[str, xr.Dataset] | None = None,
    gradients: Mapping[str, tuple[PowerLaw, PublishedLaw | None]] | None = None,
) -> str:
    """Return the Markdown summary of one or more analysed sweeps, by title.

    Published power laws and uniform baselines, by the same titles, are shown beside what was measured, and
    the laws of mean |g| in |G| beside theirs.
    """
    parts = [
        "# Thermodynamics of SGD",
        f"U: full training loss; S: entropy of the last window, k = {k}, up to a constant common to a "
        "sweep; T: the temperature at which SGD at η minimises U - T S. U and S are means ± standard "
        "deviations over the last measurements of a run, the SNR is that of the mean squares, around the "
        "full gradient that each sweep names. Regimes: convergence, U and S still fall; equilibrium; jump, "
        "off the lower convex hull of U(S); chaos, U is above the loss of the best constant prediction.",
    ]
    for title, analysis in titled.items():
        lines = [f"Power law: {power_law_text(analysis.fit)}."]
        law = (published or {}).get(title)
        if law is not None:
            lines.append(f"Published: T = {law.prefactor:.2g} · η^{law.exponent:.2f}.")
        lines.append(f"Learning rates of the fit: {analysis.range_of_fit}.")
        baseline = (baselines or {}).get(title)
        if baseline is not None:
            uniform = float(baseline["uniform_entropy"].sel(k=k))
            lines.append(
                f"Uniform on the sphere: U = {float(baseline['uniform_loss']):.4g}, S = {uniform:.0f}."
            )
        if gradients is not None:
            lines.append(_gradient_law_text(*gradients[title]))
        lines.append(f"Full gradient of the SNR: {analysis.full_gradient}.")
        parts += [f"## {title}", " ".join(lines), table(analysis)]
    return "\n\n".join(parts) + "\n"


def _gradient_law_text(measured: PowerLaw, published: PublishedLaw | None) -> str:
    text = f"Gradients: mean |g| = {measured.prefactor:.2g} · |G|^{measured.exponent:.2f}"
    if published is None:
        return f"{text}."
    return f"{text}; published: {published.prefactor:.2g} · |G|^{published.exponent:.2f}."
