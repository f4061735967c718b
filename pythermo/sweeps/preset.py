"""A preset's sweep: run into a folder that says what it is, and read from there."""

from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import xarray as xr

from pythermo.analysis.setup import Setup
from pythermo.config.preset import Preset
from pythermo.sweeps import files
from pythermo.sweeps.baseline import uniform_baseline
from pythermo.sweeps.engine import Prepared, settled
from pythermo.sweeps.sweep import (
    SWEEP,
    Workers,
    claim_sweep,
    finished_members,
    members_of,
    of_runs,
    stored_learning_rates,
    sweep_members,
)

PRESET, BASELINE = "preset.toml", "baseline.nc"


def run_preset(
    preset: Preset, out: str | Path, executor: Executor | None = None, jobs: int | None = None
) -> xr.Dataset:
    """Run a preset's sweep into a folder, with its preset and its uniform baseline beside it.

    The learning rates are written down before the first run, and are those of the folder's first preset
    ever after: a grid is computed once.

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
    preset = preset.with_learning_rates_of(_stored_learning_rates(folder))
    members = members_of(preset.run, preset.learning_rates, preset.seeds, stored_learning_rates(folder))
    config = settled(preset.run, folder, len(members), prepared)
    claim_sweep(folder, config)
    if _stored_text(folder) != preset.to_toml():
        files.write_text(folder / PRESET, preset.to_toml())
    dataset = sweep_members(config, members, folder, prepared, workers)
    if not (folder / BASELINE).exists():
        files.write_dataset(folder / BASELINE, uniform_baseline(preset.run, prepared.model, prepared.images))
    return dataset


def _stored_learning_rates(folder: Path) -> list[float]:
    """Return those of the runs that are there, and those that were only planned."""
    planned = read_preset(folder).learning_rates if (folder / PRESET).exists() else []
    return [*stored_learning_rates(folder), *planned]


def _stored_text(folder: Path) -> str | None:
    path = folder / PRESET
    return path.read_text(encoding="utf-8") if path.exists() else None


def read_preset(folder: Path) -> Preset:
    """Read the preset by which a sweep's folder was made."""
    with files.reading(folder / PRESET, "put it back as it was, or move the folder away"):
        return Preset.load(folder / PRESET)


def read_setups(out: str | Path) -> list[Setup]:
    """Read the finished sweeps of presets that lie in a folder, in the order of `Setup.order`.

    Parameters
    ----------
    out : path
        Folder of one sweep, or of several in folders of their own.

    Raises
    ------
    FileNotFoundError
        If there is none, or if one lacks runs that its preset names.
    """
    folder = files.as_path("out", out)
    found = [folder] if (folder / PRESET).exists() else [path.parent for path in folder.glob(f"*/{PRESET}")]
    finished = [path for path in found if (path / SWEEP).exists() and (path / BASELINE).exists()]
    if not finished:
        raise FileNotFoundError(f"out: {folder} holds no finished sweep of a preset")
    setups = sorted((_read(path) for path in finished), key=lambda one: one.order)
    return with_different_titles(setups)


def _read(folder: Path) -> Setup:
    preset = read_preset(folder)
    finished = finished_members(folder)
    stored = [member.lr for member in finished]
    members = members_of(preset.run, preset.learning_rates, preset.seeds, stored)
    missing = [str(member) for member in members if member not in finished]
    if missing:
        raise FileNotFoundError(
            f"out: {folder} lacks {len(missing)} of the runs that its {PRESET} names, such as {missing[0]}; "
            "the command that made it goes on with them"
        )
    dataset = of_runs(folder, {member: finished[member] for member in members})
    return Setup(
        name=folder.name,
        title=f"{preset.run.model.title}, D = {dataset.attrs['weights']}",
        preset=preset,
        dataset=dataset,
        baseline=files.read_dataset(
            folder / BASELINE, "remove it, and the command that made it computes it anew"
        ),
    )


def with_different_titles(setups: list[Setup]) -> list[Setup]:
    """Add the folder's name to titles that repeat: sweeps of one network on other data, say."""
    titles = [one.title for one in setups]
    return [
        replace(one, title=f"{one.title}, {one.name}") if titles.count(one.title) > 1 else one
        for one in setups
    ]
