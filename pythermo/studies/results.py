"""Experiments by preset: sweeps, and from them one NetCDF, figures and a summary."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from pythermo import figures
from pythermo.analysis.setup import Setup
from pythermo.config.preset import Preset
from pythermo.reports.sweeps import sweeps_report
from pythermo.studies.report import write_report
from pythermo.sweeps import files
from pythermo.sweeps.preset import run_preset
from pythermo.sweeps.setups import read_setups
from pythermo.sweeps.sweep import SWEEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce(
    presets: Mapping[str, Preset],
    out: str | Path,
    executor: Executor | None = None,
    jobs: int | None = None,
) -> list[Path]:
    """Run several presets, each into a folder of its own, and write their results.

    Parameters
    ----------
    presets : mapping of str to Preset
        Presets by the name of their folder.
    out : path
        Folder; called again, what is finished there is not computed again.
    executor, jobs
        As in `pythermo.sweep`.

    Returns
    -------
    list of Path
        The files written: see `write_results`.
    """
    folder = files.as_path("out", out)
    for name, preset in presets.items():
        run_preset(preset, folder / name, executor, jobs)
    return write_results(folder)


def write_results(out: str | Path) -> list[Path]:
    """Write NetCDF, figures and the summary of the sweeps that lie in a folder.

    Parameters
    ----------
    out : path
        Folder of one sweep, or of several in folders of their own.

    Returns
    -------
    list of Path
        ``sweep.nc`` (where there are several, along the dimension ``setup``; those over two axes stay apart),
        the figures as PNG and PDF, ``summary.md``, and ``report.html``, the page with interactive plots. Of
        sweeps over two axes the figures are ``gas_states``, ``gas_collapse``, ``gas_isotherms``,
        ``gas_compressibility``, ``gas_gibbs``, ``gas_gibbs_maps``, ``gas_isentropes`` and ``gas_runs``
        (`pythermo.figures`). Of the others figures 1 to 3 are the paper's;
        ``surface`` shows U against S and the temperature with its intervals, ``drifts`` what is stationary,
        ``thermometers`` all temperatures, ``runs`` U and S along the runs, ``gradients`` and
        ``gradient_norms`` the norms and the SNR of gradients, ``snr`` its stationary value, and
        ``neighbors``, of the smallest network, what S and T become with other k.

    Raises
    ------
    FileNotFoundError
        If no finished sweep is there, or one lacks runs.
    """
    return write_results_of(read_setups(out), out)


def write_results_of(setups: Sequence[Setup], out: str | Path) -> list[Path]:
    """Do what `write_results` does with setups that were read from the folder."""
    folder = files.writable_folder("out", out)
    drawn = [
        path for name, figure in _all_figures(setups).items() for path in figures.save(figure, folder / name)
    ]
    reports = write_report(folder, sweeps_report(setups))
    if (folder / files.CONFIG).exists():
        return [folder / SWEEP, *drawn, *reports]
    if any(one.is_gas for one in setups):  # each has axes of its own
        return [*(folder / one.name / SWEEP for one in setups), *drawn, *reports]
    files.write_dataset(folder / SWEEP, _along_setup(setups))
    return [folder / SWEEP, *drawn, *reports]


def _all_figures(setups: Sequence[Setup]) -> "dict[str, Figure]":
    lines, gases = [one for one in setups if not one.is_gas], [one for one in setups if one.is_gas]
    return (_figures(lines) if lines else {}) | (_gas_figures(gases) if gases else {})


def _gas_figures(setups: Sequence[Setup]) -> "dict[str, Figure]":
    """Return the figures of sweeps over two axes."""
    titled = {one.title: one.gas for one in setups}
    drawn = {
        "gas_states": figures.gas_states(titled),
        "gas_collapse": figures.gas_collapse(titled),
        "gas_isotherms": figures.gas_isotherms(titled),
        "gas_compressibility": figures.gas_compressibility(titled),
        "gas_gibbs": figures.gas_gibbs(titled),
        "gas_runs": figures.gas_runs({one.title: one.dataset for one in setups}),
    }
    if any("weight_decay" in one.dataset.dims for one in setups):
        drawn["gas_gibbs_maps"] = figures.gas_gibbs_maps(titled)
        drawn["gas_isentropes"] = figures.gas_isentropes(titled)
    return drawn


def _figures(setups: Sequence[Setup]) -> "dict[str, Figure]":
    """Return all figures of some setups by the names of their files."""
    analyses = {one.title: one.analysis for one in setups}
    datasets = {one.title: one.dataset for one in setups}
    laws = {one.title: one.gradient_law for one in setups}
    smallest, largest = setups[0], setups[-1]
    baselines = {one.title: one.baseline for one in setups if one.baseline is not None}
    return {
        "figure1": figures.stationary_values(analyses),
        "figure2": figures.thermodynamics(analyses, baselines),
        "figure3": figures.temperature_decay(largest.dataset, largest.title),
        "surface": figures.thermodynamic_surface({one.title: one for one in setups}),
        "drifts": figures.drifts({one.title: one.analysis.stationarity for one in setups}),
        "thermometers": figures.thermometers({one.title: one.thermometers for one in setups}),
        "runs": figures.values_along_runs(datasets),
        "gradients": figures.gradients_along_runs(datasets),
        "gradient_norms": figures.stochastic_against_full_gradient(laws),
        "snr": figures.signal_to_noise(analyses),
        "neighbors": figures.entropy_by_neighbors(smallest.title, smallest.by_neighbors()),
    }


def _along_setup(setups: Sequence[Setup]) -> xr.Dataset:
    """Join sweeps along the dimension ``setup``; learning rates and seeds that one lacks are NaN there."""
    return xr.concat(
        [one.dataset.assign_attrs(setup=one.name) for one in setups],
        dim=xr.DataArray([one.name for one in setups], dims="setup", name="setup"),
        combine_attrs="drop_conflicts",
        data_vars="all",
        join="outer",
    )
