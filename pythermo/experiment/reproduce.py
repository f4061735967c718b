"""Whole experiments: sweeps by preset, and from them one NetCDF, figures and a summary."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pythermo import figures
from pythermo.experiment import storage
from pythermo.experiment.analysis import Analysis, analyse, late_gradient_norms, summary
from pythermo.experiment.baseline import uniform_baseline
from pythermo.experiment.config import Preset
from pythermo.experiment.images import load_data
from pythermo.experiment.network import build_model
from pythermo.experiment.sweep import SWEEP, load_sweep, sweep
from pythermo.figures import save
from pythermo.temperature import fit_power_law

PRESET, BASELINE, SUMMARY = "preset.toml", "baseline.nc", "summary.md"


def run_preset(
    preset: Preset, out: str | Path, executor: Executor | None = None, jobs: int | None = None
) -> xr.Dataset:
    """Run a preset's sweep into a folder, with its preset and its uniform baseline beside it.

    Returns
    -------
    xarray.Dataset
        As `pythermo.sweep`.
    """
    folder = Path(out)
    run = preset.run.with_lr(min(preset.lr))
    build_model(
        run.model, run.training, load_data(run)
    )  # or it fails in each run, and has claimed the folder
    dataset = sweep(preset.run, preset.lr, folder, executor=executor, jobs=jobs)
    storage.write_text(folder / PRESET, preset.to_toml())
    if not (folder / BASELINE).exists():
        storage.write_dataset(folder / BASELINE, uniform_baseline(preset.run))
    return dataset


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
    folder = Path(out)
    for name, preset in presets.items():
        run_preset(preset, folder / name, executor, jobs)
    return write_results(folder)


def write_results(out: str | Path) -> list[Path]:
    """Write NetCDF, figures and the summary of the sweeps that lie in a folder.

    Parameters
    ----------
    out : path
        Folder of one preset's sweep, or of several in folders of their own.

    Returns
    -------
    list of Path
        ``sweep.nc`` (where there are several, along the dimension ``setup``), the figures as PNG and PDF,
        ``summary.md``. Figures 1 to 3 are the paper's; ``runs`` shows U and S along the runs,
        ``gradients`` and ``gradient_norms`` the norms and the SNR of gradients, ``snr`` its stationary
        value, and ``neighbours``, of the smallest network, what S and T become with other k.

    Raises
    ------
    FileNotFoundError
        If no finished sweep of a preset is there.
    """
    folder = Path(out)
    sweeps = _with_different_titles(_read_sweeps(folder))
    drawn = [path for name, figure in _figures(sweeps).items() for path in save(figure, folder / name)]
    titled = {one.title: one.analysis for one in sweeps}
    laws = {one.title: one.preset.published for one in sweeps if one.preset.published is not None}
    gradients = {
        one.title: (fit_power_law(*late_gradient_norms(one.dataset)), one.preset.published_gradients)
        for one in sweeps
    }
    text = summary(titled, published=laws, baselines=_baselines_of(sweeps), gradients=gradients)
    storage.write_text(folder / SUMMARY, text)
    if not (folder / PRESET).exists():
        storage.write_dataset(folder / SWEEP, _along_setup(sweeps))
    return [folder / SWEEP, *drawn, folder / SUMMARY]


@dataclass(frozen=True)
class _Sweep:
    """A finished sweep of a preset and what follows from it."""

    name: str
    title: str
    dataset: xr.Dataset
    baseline: xr.Dataset | None
    preset: Preset
    analysis: Analysis

    @property
    def samples_per_class(self) -> float:
        """Training images of each class, infinity for all."""
        return self.preset.run.data.samples_per_class or np.inf

    def by_neighbours(self) -> dict[int, Analysis]:
        """Return the analyses by the number of neighbours of the entropy."""
        last = self.preset.run.measurement.stationary
        ks = map(int, self.dataset["k"].values)
        return {k: analyse(self.dataset, last, self.preset.fit, k) for k in ks}


def _figures(sweeps: list[_Sweep]) -> dict[str, Figure]:
    """Return all figures of some sweeps by the names of their files."""
    titled = {one.title: one.analysis for one in sweeps}
    datasets = {one.title: one.dataset for one in sweeps}
    smallest, largest = sweeps[0], sweeps[-1]
    return {
        "figure1": figures.stationary_values(titled),
        "figure2": figures.thermodynamics(titled, _baselines_of(sweeps)),
        "figure3": figures.temperature_decay(largest.dataset, largest.title),
        "runs": figures.values_along_runs(datasets),
        "gradients": figures.gradients_along_runs(datasets),
        "gradient_norms": figures.stochastic_against_full_gradient(datasets),
        "snr": figures.signal_to_noise(titled),
        "neighbours": figures.entropy_by_neighbours(smallest.title, smallest.by_neighbours()),
    }


def _baselines_of(sweeps: list[_Sweep]) -> dict[str, xr.Dataset]:
    return {one.title: one.baseline for one in sweeps if one.baseline is not None}


def _read_sweeps(folder: Path) -> list[_Sweep]:
    """Read the sweeps of a folder, small networks first, and of one network small training sets."""
    found = [folder] if (folder / PRESET).exists() else [path.parent for path in folder.glob(f"*/{PRESET}")]
    if not found:
        raise FileNotFoundError(f"out: {folder} holds no finished sweep of a preset")
    sweeps = [_read_sweep(path) for path in found]
    return sorted(sweeps, key=lambda one: (one.dataset.attrs["weights"], one.samples_per_class, one.name))


def _with_different_titles(sweeps: list[_Sweep]) -> list[_Sweep]:
    """Add the folder's name to titles that repeat: sweeps of one network on other data, say."""
    titles = [one.title for one in sweeps]
    return [
        replace(one, title=f"{one.title}, {one.name}") if titles.count(one.title) > 1 else one
        for one in sweeps
    ]


def _read_sweep(folder: Path) -> _Sweep:
    preset = Preset.load(folder / PRESET)
    dataset = load_sweep(folder)
    missing = sorted(set(preset.lr) - set(dataset["lr"].values.tolist()))
    if missing:
        raise FileNotFoundError(f"out: {folder} lacks the runs at the learning rates {missing}")
    dataset = dataset.sel(lr=sorted(preset.lr))
    baseline = folder / BASELINE
    return _Sweep(
        name=folder.name,
        title=f"{preset.run.model.title}, D = {dataset.attrs['weights']}",
        dataset=dataset,
        baseline=storage.read_dataset(baseline) if baseline.exists() else None,
        preset=preset,
        analysis=analyse(dataset, preset.run.measurement.stationary, preset.fit),
    )


def _along_setup(sweeps: Iterable[_Sweep]) -> xr.Dataset:
    """Join sweeps along the dimension ``setup``; learning rates that one lacks are NaN there."""
    ones = list(sweeps)
    return xr.concat(
        [one.dataset.assign_attrs(setup=one.name) for one in ones],
        dim=xr.DataArray([one.name for one in ones], dims="setup", name="setup"),
        combine_attrs="drop_conflicts",
        data_vars="all",
        join="outer",
    )
