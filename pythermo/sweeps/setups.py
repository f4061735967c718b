"""Folders of sweeps as Setups: finished, running, or stopped on the way."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import xarray as xr

from pythermo.analysis.setup import Progress, Setup, Waiting
from pythermo.config.member import Member
from pythermo.config.preset import Preset
from pythermo.config.schedule import measured_iterations
from pythermo.config.schema import RunConfig
from pythermo.sweeps import files
from pythermo.sweeps.group import ERROR_LOG, read_progress
from pythermo.sweeps.members import (
    combined,
    finished_members,
    members_of,
    of_runs,
    stored_members,
    stored_values,
)
from pythermo.sweeps.preset import BASELINE, PRESET, read_preset
from pythermo.sweeps.run import SO_FAR, is_finished
from pythermo.sweeps.snapshots import MEASUREMENTS


def read_setups(out: str | Path) -> list[Setup]:
    """Read the finished sweeps that lie in a folder, in the order of `Setup.order`.

    Parameters
    ----------
    out : path
        Folder of one sweep, of a preset or not, or of several in folders of their own.

    Raises
    ------
    FileNotFoundError
        If there is none, or if one lacks runs.
    ValueError
        As `read_so_far`.
    """
    setups, waiting = read_so_far(out)
    named = {one.name: one.progress for one in setups} | {one.name: one.progress for one in waiting}
    for name, progress in named.items():
        if not progress.complete:
            lacking = f", such as {progress.unfinished[0]}" if progress.unfinished else ""
            raise FileNotFoundError(
                f"out: the sweep {name} lacks {len(progress.unfinished)} of its {progress.members} runs"
                f"{lacking}; the command that made it goes on, and `pythermo watch` shows what is there"
            )
    return setups


def read_so_far(out: str | Path) -> tuple[list[Setup], list[Waiting]]:
    """Read the sweeps that lie in a folder, whatever is there of each.

    Parameters
    ----------
    out : path
        Folder of one sweep, of a preset or not, or of several in folders of their own.

    Returns
    -------
    list of Setup
        In the order of `Setup.order`, each with its `Progress`. Where no run is finished, measurements end at
        the last iteration that all runs have which have begun; else those of unfinished ones are NaN at the
        end.
    list of Waiting
        Those without any measurement.

    Raises
    ------
    FileNotFoundError
        If the folder holds no sweep.
    ValueError
        For a sweep that cannot be analyzed, naming what its configuration lacks for it.
    """
    folder = files.as_path("out", out)
    found = [folder] if (folder / files.CONFIG).exists() else _sweeps_in(folder)
    if not found:
        raise FileNotFoundError(
            f"out: {folder} holds no sweep: no {files.CONFIG} in it or in a folder of it; name the folder "
            "that `pythermo sweep`, `pythermo reproduce` or pythermo.sweep was given"
        )
    read = [_read(path) for path in found]
    setups = sorted((one for one in read if isinstance(one, Setup)), key=lambda one: one.order)
    return _with_different_titles(setups), [one for one in read if isinstance(one, Waiting)]


def _with_different_titles(setups: list[Setup]) -> list[Setup]:
    """Add the folder's name to titles that repeat: sweeps of one network on other data, say."""
    titles = [one.title for one in setups]
    return [
        replace(one, title=f"{one.title}, {one.name}") if titles.count(one.title) > 1 else one
        for one in setups
    ]


def _sweeps_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{files.CONFIG}"))


def _read(folder: Path) -> Setup | Waiting:
    if (folder / MEASUREMENTS).exists():
        raise FileNotFoundError(f"out: {folder} is the folder of a run; name that of a sweep")
    config, finished = files.read_config(folder), finished_members(folder)
    begun = _begun_members(folder)
    members = _members_of(folder)
    runs = {member: finished[member] for member in members if member in finished}
    progress = _progress(folder, config, members, set(runs))
    if not progress.complete:
        runs |= {member: begun[member] for member in members if member in begun and member not in runs}
    if not runs:
        return Waiting(folder.name, progress)
    dataset = of_runs(folder, runs) if progress.complete else _partial(config, runs, members, progress)
    return Setup(
        name=folder.name,
        title=f"{config.model.title}, D = {dataset.attrs['weights']}",
        preset=_preset_of(folder, config, members),
        dataset=dataset,
        baseline=_baseline(folder),
        progress=progress,
    )


def _begun_members(folder: Path) -> dict[Member, xr.Dataset]:
    """Return what the runs that are not finished have measured."""
    found = {}
    for path in sorted(folder.glob(f"*/{SO_FAR}")):
        member = Member.of_folder(path.parent.name)
        if member is not None and not is_finished(path.parent):
            with suppress(FileNotFoundError):  # its run has just ended
                found[member] = files.read_dataset(path, "the run writes it anew at its next checkpoint")
    return found


def _members_of(folder: Path) -> list[Member]:
    """Return the members that a preset names, or else those that have a folder."""
    if not (folder / PRESET).exists():
        return sorted(stored_members(folder))
    preset = read_preset(folder)
    return members_of(preset.run, preset.axes, preset.seeds, stored_values(folder))


def _preset_of(folder: Path, config: RunConfig, members: Iterable[Member]) -> Preset:
    """Return the preset that a sweep was made by, or one that says the same of a sweep without."""
    if (folder / PRESET).exists():
        return read_preset(folder)
    values = _values_of(members)
    seeds = values.pop("seed")
    run = config.model_dump(exclude_unset=True, exclude={"lr"})
    return Preset.checked({"description": "", **values, "seeds": len(seeds), "run": run})


def _values_of(members: Iterable[Member]) -> dict[str, list[float]]:
    """Return the values of each axis that members have, ascending."""
    values: dict[str, set[float]] = {}
    for member in members:
        for axis, value in member.coordinates.items():
            values.setdefault(axis, set()).add(value)
    return {axis: sorted(several) for axis, several in values.items()}


def _progress(folder: Path, config: RunConfig, members: list[Member], finished: set[Member]) -> Progress:
    length = config.training.iterations
    unfinished = [member for member in members if member not in finished]
    underway = {member: read_progress(folder / member.folder) for member in unfinished}
    errors = {member: _last_error(folder / member.folder) for member in unfinished if not underway[member]}
    return Progress(
        members=len(members),
        unfinished=tuple(map(str, unfinished)),
        iterations=len(finished) * length + sum(at[0] for at in underway.values() if at),
        all_iterations=len(members) * length,
        failures=tuple(f"{member}: {error}" for member, error in errors.items() if error),
    )


def _last_error(folder: Path) -> str:
    """Return the last line of a run's error log; empty without one."""
    with suppress(FileNotFoundError):
        lines = (folder / ERROR_LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"
    return ""


def _partial(
    config: RunConfig, runs: Mapping[Member, xr.Dataset], members: list[Member], progress: Progress
) -> xr.Dataset:
    """Return what runs have measured, at the iterations of all; NaN for members that have not begun."""
    training, measurement = config.training, config.measurement
    iterations = measured_iterations(training.iterations, measurement.count, measurement.late)
    if progress.finished == 0:
        iterations = iterations[: min(one.sizes["iteration"] for one in runs.values())]
    alike = {
        member: one.isel(iteration=slice(0, len(iterations))).reindex(iteration=iterations)
        for member, one in runs.items()
    }
    return combined(alike).reindex(_values_of(members))


def _baseline(folder: Path) -> xr.Dataset | None:
    path = folder / BASELINE
    if not path.exists():
        return None
    return files.read_dataset(path, "remove it, and the command that made it computes it anew")
