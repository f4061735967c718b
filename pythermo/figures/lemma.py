"""Figure of the SNR near an optimum."""

from collections.abc import Mapping

import matplotlib as mpl
import xarray as xr
from matplotlib.figure import Figure

from pythermo.figures.style import BLUE, ORANGE, STYLE


def snr_near_an_optimum(found: Mapping[str, xr.Dataset]) -> Figure:
    """Draw the SNR against the distance from an optimum, a line per random direction, with power laws.

    Parameters
    ----------
    found : mapping of str to Dataset
        Of `pythermo.experiment.lemma.snr_by_distance`, by the name of the setup.

    Returns
    -------
    Figure
        Source: arXiv 2505.23489, Lemma 1.
    """
    from pythermo.experiment.lemma import LINEAR, slope

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        axes = figure.subplots()
        for (name, one), colour, marker in zip(found.items(), (BLUE, ORANGE), "os", strict=True):
            law = slope(one)
            text = f"{name.upper()}, D = {one.attrs['weights']}: SNR ∝ distance^{law.exponent:.2f}"
            axes.plot(one["distance"], one["snr"].T, marker, color=colour, ms=3, alpha=0.6)
            x = one["distance"].sel(distance=LINEAR)
            axes.plot(x, law.prefactor * x**law.exponent, color=colour, lw=1.5, label=text)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="distance from the optimum",
            ylabel="signal-to-noise ratio of the gradient",
        )
        axes.legend(fontsize=8)
        return figure
