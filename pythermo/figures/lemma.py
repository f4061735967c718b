"""Figure of the SNR near an optimum."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.figure import Figure

from pythermo.estimators.temperature import PowerLaw
from pythermo.figures.style import BLUE, ORANGE, own_style, require_some


def snr_near_an_optimum(
    found: Mapping[str, xr.Dataset], laws: Mapping[str, PowerLaw], within: slice
) -> Figure:
    """Draw the SNR against the distance from an optimum, a line per random direction, with power laws.

    Parameters
    ----------
    found : mapping of str to Dataset
        ``snr`` [direction, distance], by the name of the setup.
    laws : mapping of str to PowerLaw
        Of the SNR in the distance, by the same names.
    within : slice
        The distances for which they were fitted.

    Returns
    -------
    Figure
        Source: arXiv 2505.23489, Lemma 1.
    """
    require_some("found", found)
    with own_style():
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        axes = figure.subplots()
        for (name, one), color, marker in zip(found.items(), (BLUE, ORANGE), "os", strict=True):
            law = laws[name]
            text = f"{name.upper()}, D = {one.attrs['weights']}: SNR ∝ distance^{law.exponent:.2f}"
            axes.plot(one["distance"], one["snr"].T, marker, color=color, ms=3, alpha=0.6)
            x = one["distance"].sel(distance=within)
            axes.plot(x, law.prefactor * x**law.exponent, color=color, lw=1.5, label=text)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="distance from the optimum",
            ylabel="signal-to-noise ratio of the gradient",
        )
        axes.legend(fontsize=8)
        return figure
