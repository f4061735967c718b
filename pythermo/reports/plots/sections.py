"""The sections of plots of a report on sweeps: what each shows, and in which order."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pythermo.analysis.setup import Setup
from pythermo.reports.sections import Plot, Section
from pythermo.training.quantities import QUANTITIES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ALONG_RUNS = ("loss", "entropy", "test_loss", "snr", "mean_grad_norm", "full_grad_norm")


def plot_sections(setups: Sequence[Setup]) -> list[Section]:
    """Return the plots of some setups, side by side by what they show; drawn when they are shown."""
    from pythermo.reports.plots import stationary, temperature

    each: list[tuple[str, list[tuple[Callable[[Setup], Figure], str]]]] = [
        (
            "Temperature",
            [
                (temperature.temperature_plot, "T is the slope dU/dS; its law is the dashed line."),
                (
                    temperature.thermometers_plot,
                    "All thermometers. Where a state has one temperature they agree within their intervals.",
                ),
                (
                    temperature.surface_plot,
                    "U against S. T is the slope of the convex curve; a jump shows as means above it.",
                ),
                (
                    temperature.free_energy_plot,
                    "F = U - T S at the learning rates of the fit. Move T: the learning rate whose state "
                    "minimizes F moves with it.",
                ),
            ],
        ),
        (
            "Stationary states",
            [
                (stationary.energy_plot, "U of the last measurements: means over seeds, and each member."),
                (stationary.entropy_plot, "S of the last windows, up to a constant common to a sweep."),
                (stationary.snr_plot, "Signal-to-noise ratio of the gradient."),
                (stationary.gradients_plot, "Norms of gradients and of their noise."),
                (
                    temperature.drifts_plot,
                    "Stationary is what lies in the band with both intervals: such drifts do not matter.",
                ),
            ],
        ),
    ]
    sections = [
        Section(title, plots=[_plot(draw, caption, setup) for setup in setups for draw, caption in drawn])
        for title, drawn in each
    ]
    return [*sections, _along_runs(setups)]


def gas_plot_sections(setups: Sequence[Setup]) -> list[Section]:
    """Return the plots of sweeps over two axes."""
    from pythermo.reports.plots.gas import PLOTS

    return [
        Section(one.title, plots=[_plot(draw, caption, one) for draw, caption in PLOTS]) for one in setups
    ]


def _along_runs(setups: Sequence[Setup]) -> Section:
    from pythermo.reports.plots.runs import along_runs_plot

    words = "Means over seeds. A click on a learning rate in the legend hides it, a double click all others."
    plots = [
        _plot(partial(along_runs_plot, name=name), _sentence(QUANTITIES[name].long_name), setup)
        for setup in setups
        for name in _ALONG_RUNS
        if name in setup.dataset
    ]
    return Section("Along the runs", [words], plots=plots)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _plot(draw: "Callable[[Setup], Figure]", caption: str, setup: Setup) -> Plot:
    from pythermo.reports.plots.style import or_reason

    return Plot(caption, partial(or_reason, draw, setup))
