"""The members of a sweep: which they are, and what of them lies in a folder."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import xarray as xr

from pythermo._checks import require_positive, require_several
from pythermo.config.member import AXES, Member, chosen_seeds, shared_keys
from pythermo.config.preset import as_stored
from pythermo.config.schema import RunConfig, differing_keys
from pythermo.sweeps import files
from pythermo.sweeps.ensemble_entropy import with_ensemble_entropy
from pythermo.sweeps.snapshots import MEASUREMENTS


def members_of(
    config: RunConfig,
    axes: Mapping[str, Iterable[float]],
    seeds: int | Iterable[int],
    stored: Mapping[str, Iterable[float]] | None = None,
) -> list[Member]:
    """Return the members of a sweep, ascending.

    Values of ``axes``, "lr" and more, that are ``stored`` ones but for rounding are taken for these;
    ``seeds`` are how many, from that of the configuration, or which.
    """
    chosen = {axis: _values(axis, values, (stored or {}).get(axis, ())) for axis, values in axes.items()}
    own_seeds = chosen_seeds(seeds, config.training.seed)
    cells = [dict(zip(chosen, cell, strict=True)) for cell in product(*chosen.values())]
    for cell in cells:
        config.at(Member(seed=own_seeds[0], **cell))  # refuses what its protocol does not have
    return sorted(Member(seed=seed, **cell) for cell in cells for seed in own_seeds)


def _values(axis: str, given: Iterable[float], stored: Iterable[float]) -> list[float]:
    """Return the values of an axis, those that are stored as they are."""
    kept, stored = list[float](), list(stored)
    for value in require_several(axis, given):
        kept.append(as_stored(require_positive(axis, value), stored))
        if as_stored(kept[-1], kept[:-1]) in kept[:-1]:
            raise ValueError(f"{axis}: must not repeat; {kept[-1]:g} does")
    if not kept:
        raise ValueError(f"{axis}: at least one is needed")
    return kept


def claim_sweep(folder: Path, config: RunConfig, members: Sequence[Member]) -> None:
    """Make a folder for a sweep, or check that it was made for the same one and holds its runs alone."""
    axes = list(members[0].coordinates)
    compared, unsaid = [AXES[axis] for axis in axes], shared_keys(axes)
    if (folder / files.CONFIG).exists():
        files.check_folder(folder, config, compared)
    else:
        with files.exclusive(folder):
            files.claim_folder(folder, config, compared, unsaid)
    finished_members(folder)  # refuses folders of other runs
    for other in stored_members(folder):
        if list(other.coordinates) != axes:
            raise ValueError(
                f"out: {folder} has the run {other.folder}, and this sweep goes over {', '.join(axes)}; "
                "choose another folder"
            )


def load_sweep(out: str | Path) -> xr.Dataset:
    """Read the finished runs of a sweep.

    Parameters
    ----------
    out : path
        Folder of the sweep, or its NetCDF file.

    Returns
    -------
    xarray.Dataset
        As `sweep`; NaN for runs that are not finished, where others have their learning rate and seed.

    Raises
    ------
    FileNotFoundError
        If there is no finished run.
    ValueError
        For folders that do not hold the run that their name and the sweep's configuration say: a copied
        folder, say, or a run with another batch size. They are named.
    """
    path = files.as_path("out", out)
    if not path.exists():
        raise FileNotFoundError(f"out: there is no folder and no file {path}")
    if path.is_file():
        return files.read_dataset(path, "remove it, and the sweep's call writes it anew")
    finished = finished_members(path)
    if not finished:
        inside = sorted(one.parent.name for one in path.glob(f"*/{files.CONFIG}"))
        hint = f"; it has folders of sweeps, {', '.join(inside)}: name one of them" if inside else ""
        raise FileNotFoundError(f"out: {path} holds no finished run of a sweep{hint}")
    return of_runs(path, finished)


def finished_members(folder: Path) -> dict[Member, xr.Dataset]:
    """Return the measurements of a sweep's finished runs, checked as `load_sweep` says."""
    found = sorted(path.parent for path in folder.glob(f"*/{MEASUREMENTS}"))
    if not found:
        return {}
    config = files.read_config(folder)
    finished, strangers = {}, []
    for run in found:
        member, dataset = Member.of_folder(run.name), _read_once(run / MEASUREMENTS)
        if member is None:
            strangers.append(f"{run.name}: not the name of a member's folder")
            continue
        differences = differing_keys(files.kept_config(dataset.attrs["config"]), config.at(member))
        strangers += [f"{run.name}: {difference}" for difference in differences]
        finished[member] = dataset
    if strangers:
        listed = "\n  ".join(strangers)
        raise ValueError(
            f"out: {folder} has folders that do not hold the run of their name in this sweep; move them "
            f"away\n  {listed}"
        )
    return finished


def _read_once(path: Path) -> xr.Dataset:
    """Return the measurements of a finished run, which are read again only if the file has changed."""
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=10_000)
def _read(path: Path, modified: int, inode: int) -> xr.Dataset:
    return files.read_dataset(path, "remove it, and the sweep's call computes the run anew")


def of_runs(folder: Path, runs: Mapping[Member, xr.Dataset]) -> xr.Dataset:
    """Return one Dataset of the runs of a sweep's folder, with the entropies of their seeds."""
    return with_ensemble_entropy(combined(runs), folder, list(runs))


def combined(runs: Mapping[Member, xr.Dataset]) -> xr.Dataset:
    """Return one Dataset of members' runs along the axes that these have; NaN where a run lacks.

    Its attribute ``config`` is the configuration without what tells the members apart.

    Raises
    ------
    ValueError
        For members that do not have the same axes.
    """
    first, *others = runs
    axes = list(first.coordinates)
    for other in others:
        if list(other.coordinates) != axes:
            raise ValueError(f"out: the runs {first} and {other} do not have the same axes")
    ones = [one.drop_vars(axes, errors="ignore") for one in runs.values()]
    attrs = {axis: one.attrs for one in runs.values() for axis, one in one.coords.items()}
    config = files.kept_config(ones[0].attrs["config"])
    stacked = xr.concat(
        ones,
        dim="member",
        combine_attrs="drop_conflicts",
        data_vars="all",
        join="exact",
        coords="minimal",
        compat="equals",
    )
    stacked = stacked.assign_coords(
        {axis: ("member", [member.coordinates[axis] for member in runs]) for axis in axes}
    )
    dataset = stacked.set_index(member=axes).unstack("member").transpose(*axes, "iteration", "k")
    for axis in axes:
        dataset[axis].attrs = attrs.get(axis, {})
    return dataset.assign_attrs(config=config.to_toml(shared_keys(axes)))


def stored_members(folder: Path) -> list[Member]:
    """Return the members that have a folder, finished or not."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [member for name in names if (member := Member.of_folder(name)) is not None]


def stored_values(folder: Path) -> dict[str, list[float]]:
    """Return what the members that have a folder have of each axis."""
    values: dict[str, list[float]] = {}
    for member in stored_members(folder):
        for axis, value in member.coordinates.items():
            values.setdefault(axis, []).append(value)
    return values
