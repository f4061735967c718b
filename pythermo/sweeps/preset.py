"""A preset's sweep: run into a folder that says what it is, and read from there."""

from concurrent.futures import Executor
from pathlib import Path

import xarray as xr

from pythermo.config.preset import Preset
from pythermo.sweeps import files
from pythermo.sweeps.baseline import uniform_baseline
from pythermo.sweeps.engine import Prepared, settled
from pythermo.sweeps.members import claim_sweep, members_of, stored_values
from pythermo.sweeps.sweep import Workers, sweep_members

PRESET, BASELINE = "preset.toml", "baseline.nc"


def run_preset(
    preset: Preset, out: str | Path, executor: Executor | None = None, jobs: int | None = None
) -> xr.Dataset:
    """Run a preset's sweep into a folder, with its preset and its uniform baseline beside it.

    The values of its axes are written down before the first run, and are those of the folder's first preset
    ever after: a grid is computed once. The baseline is that of a sweep over learning rates alone.

    Returns
    -------
    xarray.Dataset
        As `pythermo.sweep`.

    Raises
    ------
    ValueError, FileNotFoundError
        Before anything is written, for data or a network that cannot be used.
    """
    folder = files.as_path("out", out).resolve()
    workers = Workers(executor, jobs)
    prepared = Prepared(preset.run)
    _ = prepared.model  # refuses data and networks before anything is written
    preset = preset.with_values_of(_planned_values(folder)).with_values_of(stored_values(folder))
    members = members_of(preset.run, preset.axes, preset.seeds)
    config = settled(preset.run, folder, len(members), prepared)
    claim_sweep(folder, config, members)
    if _stored_text(folder) != preset.to_toml():
        files.write_text(folder / PRESET, preset.to_toml())
    dataset = sweep_members(config, members, folder, prepared, workers)
    if list(preset.axes) == ["lr"] and not (folder / BASELINE).exists():
        files.write_dataset(folder / BASELINE, uniform_baseline(preset.run, prepared.model, prepared.images))
    return dataset


def _planned_values(folder: Path) -> dict[str, list[float]]:
    """Return the values of the axes of the preset that the folder has, if it has one."""
    return read_preset(folder).axes if (folder / PRESET).exists() else {}


def _stored_text(folder: Path) -> str | None:
    path = folder / PRESET
    return path.read_text(encoding="utf-8") if path.exists() else None


def read_preset(folder: Path) -> Preset:
    """Read the preset by which a sweep's folder was made."""
    with files.reading(folder / PRESET, "put it back as it was, or move the folder away"):
        return Preset.load(folder / PRESET)
