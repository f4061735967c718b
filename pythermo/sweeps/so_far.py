"""Sweeps as they are at this moment: finished, running, or stopped on the way."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import xarray as xr

from pythermo.analysis.setup import Progress, Setup, Waiting
from pythermo.config.member import Member
from pythermo.config.preset import Preset
from pythermo.config.schedule import measured_iterations
from pythermo.config.schema import RunConfig
from pythermo.sweeps import files
from pythermo.sweeps.group import ERROR_LOG, read_progress
from pythermo.sweeps.preset import BASELINE, PRESET, read_preset, with_different_titles
from pythermo.sweeps.run import SO_FAR, is_finished
from pythermo.sweeps.sweep import combined, finished_members, members_of, of_runs


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
    return with_different_titles(setups), [one for one in read if isinstance(one, Waiting)]


def _sweeps_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{files.CONFIG}"))


def _read(folder: Path) -> Setup | Waiting:
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
    """Return what the runs that are not finished have measured, those that can be read."""
    found = {}
    for path in sorted(folder.glob(f"*/{SO_FAR}")):
        member = Member.of_folder(path.parent.name)
        if member is not None and not is_finished(path.parent):
            found[member] = files.read_dataset(path, "the run writes it anew at its next checkpoint")
    return found


def _members_of(folder: Path) -> list[Member]:
    """Return the members that a preset names, or else those that have a folder."""
    named = [Member.of_folder(path.name) for path in folder.iterdir() if path.is_dir()]
    there = sorted(member for member in named if member is not None)
    if not (folder / PRESET).exists():
        return there
    preset = read_preset(folder)
    return members_of(preset.run, preset.learning_rates, preset.seeds, [member.lr for member in there])


def _preset_of(folder: Path, config: RunConfig, members: Iterable[Member]) -> Preset:
    """Return the preset that a sweep was made by, or one that says the same of a sweep without."""
    if (folder / PRESET).exists():
        return read_preset(folder)
    rates, seeds = ({getattr(member, axis) for member in members} for axis in ("lr", "seed"))
    run = config.model_dump(exclude_unset=True, exclude={"lr"})
    return Preset.checked({"description": "", "lr": sorted(rates), "seeds": len(seeds), "run": run})


def _progress(folder: Path, config: RunConfig, members: list[Member], finished: set[Member]) -> Progress:
    length, done, failures = config.training.iterations, 0, []
    for member in members:
        own = folder / member.folder
        if member in finished:
            done += length
            continue
        underway = read_progress(own)
        done += underway[0] if underway else 0
        if underway is None and (own / ERROR_LOG).exists():
            last = (own / ERROR_LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            failures.append(f"{member}: {last[-1] if last else 'no message'}")
    return Progress(len(members), len(finished), done, length * len(members), tuple(failures))


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
    rates, seeds = ({getattr(member, axis) for member in members} for axis in ("lr", "seed"))
    return combined(alike).reindex(lr=sorted(rates), seed=sorted(seeds))


def _baseline(folder: Path) -> xr.Dataset | None:
    path = folder / BASELINE
    if not path.exists():
        return None
    return files.read_dataset(path, "remove it, and the command that made it computes it anew")
