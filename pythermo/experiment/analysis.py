"""From a sweep's measurements to stationary values, temperatures and the summary that people read."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pythermo.experiment.config import FIGURE_K, FitConfig
from pythermo.temperature import TemperatureFit, fit_temperature


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
        Of all learning rates: see `stationary`.
    fit : TemperatureFit
        Of the learning rates of the fit's range.
    full_gradient : str
        What the SNR took for the full gradient: "mean" of minibatch gradients or "evaluation" batches.
    """

    stationary: xr.Dataset
    fit: TemperatureFit
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
    count = values.sizes["lr"]
    chosen = np.arange(count)[settings.first : settings.last + 1 or None]
    if len(chosen) < 2:
        raise ValueError(
            f"fit: the range {settings.first} ... {settings.last} holds {len(chosen)} of the sweep's "
            f"{count} learning rates; at least 2 are needed"
        )
    ranged = values.isel(lr=chosen)
    fit = fit_temperature(
        ranged["lr"].values, ranged["energy"].values, ranged["entropy"].values, settings.tolerance
    )
    return Analysis(values, fit, str(sweep.attrs["full_gradient"]))


def power_law_text(fit: TemperatureFit) -> str:
    """Return the power law of a fit with the standard errors of its parameters."""
    return (
        f"T = ({fit.prefactor:.2e} ± {fit.prefactor_stderr:.1e}) · η^"
        f"({fit.exponent:.2f} ± {fit.exponent_stderr:.2f})"
    )


def table(analysis: Analysis) -> str:
    """Return the Markdown table eta, U, S, T, interval, SNR, with remarks on the points of the fit."""
    lines = [
        "| η | U | S (nats) | T | interval of T | SNR | remark |",
        "|---|---|---|---|---|---|---|",
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
            f"| {temperature} | {interval} | {float(one['snr']):.3g} | {remark} |"
        )
    return "\n".join(lines)


def summary(titled: dict[str, Analysis], k: int = FIGURE_K) -> str:
    """Return the Markdown summary of one or more analysed sweeps, by title."""
    parts = [
        "# Thermodynamics of SGD",
        f"U: full training loss; S: entropy of the last window, k = {k}, up to a constant common to a "
        "sweep; T: the temperature at which SGD at η minimises U - T S. U and S are means ± standard "
        "deviations over the last measurements of a run, the SNR is that of the mean squares, around the "
        "full gradient that each sweep names.",
    ]
    for title, analysis in titled.items():
        choice = analysis.full_gradient
        parts += [
            f"## {title}",
            f"Power law: {power_law_text(analysis.fit)}. Full gradient of the SNR: {choice}.",
            table(analysis),
        ]
    return "\n\n".join(parts) + "\n"
