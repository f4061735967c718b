"""A sweep: the same run at many learning rates and seeds, on any executor of concurrent.futures."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache
from itertools import product
from pathlib import Path

import xarray as xr

from pythermo._checks import require_integer, require_positive, require_several
from pythermo._progress import ProgressBar
from pythermo.config.member import AXES, Member, chosen_seeds, shared_keys
from pythermo.config.preset import as_stored
from pythermo.config.schema import RunConfig, differing_keys
from pythermo.ops._devices import default_jobs, devices_to_share
from pythermo.sweeps import files
from pythermo.sweeps.engine import Prepared, runs_side_by_side, settled
from pythermo.sweeps.ensemble_entropy import with_ensemble_entropy
from pythermo.sweeps.group import ERROR_LOG, Group, described, grouped, log_error, read_progress, run_group
from pythermo.sweeps.run import is_finished, require_seconds
from pythermo.sweeps.snapshots import MEASUREMENTS
from pythermo.sweeps.workers import Processes, ProcessNotStartedError, is_starting

SWEEP = "sweep.nc"

# Runs whose losses the progress bar shows.
_SHOWN = 3


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the others are finished and on disk.

    Attributes
    ----------
    failures : dict of Member to str
        The last line of the error of each run that failed.
    """

    def __init__(self, failures: dict[Member, str], folder: Path) -> None:
        self.failures = failures
        lines = [
            f"  {member}: {error}{_log_of(folder / member.folder)}" for member, error in failures.items()
        ]
        first = f"{len(failures)} of the sweep's runs failed:"
        last = "Finished runs are kept. The same call goes on with the others, from any checkpoints."
        super().__init__("\n".join([first, *lines, last]))


def _log_of(folder: Path) -> str:
    log = folder / ERROR_LOG
    return f" (log: {log})" if log.exists() else ""


def sweep(
    config: RunConfig,
    lr: Iterable[float],
    out: str | Path,
    seeds: int | Iterable[int] = 1,
    *,
    weight_decay: Iterable[float] | None = None,
    radius: Iterable[float] | None = None,
    executor: Executor | None = None,
    jobs: int | None = None,
    checkpoint_seconds: float = 30.0,
) -> xr.Dataset:
    """Run one configuration at many learning rates, and with several seeds at each.

    In full space also at several values of weight decay, or on spheres of several radii, each with all
    learning rates.

    Parameters
    ----------
    config : RunConfig
        The run; its own learning rate does not matter, nor what else the sweep goes over.
    lr : iterable of float
        Learning rates, positive and different from each other. One that a run of the folder has, but for
        the rounding of its last digits on another processor, is that run's.
    out : path
        Folder of the sweep: a folder per run and, when all are finished, ``sweep.nc``. Called again,
        finished runs are skipped, unfinished ones go on, and learning rates and seeds may be added. On
        several machines it must lie on a file system that they share, at the same path. No run is ever
        worked on by two processes: the second waits.
    seeds : int or iterable of int
        How many seeds of the training draws, counted from ``config.training.seed``, or which. The initial
        point and the head are the same for all; batches in training and in measurements differ.
    weight_decay, radius : iterable of float, optional
        As ``lr``; what is not given is the configuration's, and no dimension of the results.
    executor : concurrent.futures.Executor, optional
        Where the runs are computed; processes on this machine if not given.
    jobs : int, optional
        Number of those processes, one torch thread each; the number of cores if not given, or that of
        the GPUs for runs on "cuda", which are laid over all of them. They are spawned: a script that calls
        this needs the usual ``if __name__ == "__main__":``.
    checkpoint_seconds : float
        Seconds between the checkpoints of a run, as in `run`.

    Returns
    -------
    xarray.Dataset
        The measurements of these runs with the dimensions ``lr`` (ascending), ``seed``, ``weight_decay`` and
        ``radius`` where they were given, ``iteration`` and ``k``. Where weights of several seeds were kept,
        also ``ensemble_entropy`` (nats), that of the seeds at one iteration, with the axes' dimensions,
        ``snapshot`` and ``ensemble_k``, all numbers of neighbors below that of seeds.

    Raises
    ------
    SweepError
        After all other runs are finished, with the runs that failed; each has an ``error.log`` in its
        folder.
    ValueError
        For no or repeated values of an axis, one that the protocol does not have, a folder that another
        configuration made or whose runs have other axes, or ``jobs`` beside an executor.

    Examples
    --------
    >>> config = Preset.load("digits-quick").run
    >>> sweep(config, [0.003, 0.01, 0.03], "out/mine", seeds=4)  # doctest: +SKIP
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config: must be a pythermo.RunConfig, not {type(config).__name__}")
    workers = Workers(executor, jobs, checkpoint_seconds)
    folder, prepared = files.as_path("out", out).resolve(), Prepared(config)
    others = {"weight_decay": weight_decay, "radius": radius}
    axes = {"lr": lr} | {axis: values for axis, values in others.items() if values is not None}
    members = members_of(config, axes, seeds, stored_values(folder))
    config = settled(config, folder, len(members), prepared)
    claim_sweep(folder, config, members)
    return sweep_members(config, members, folder, prepared, workers)


class Workers:
    """Who computes a sweep, and how often checkpoints are written; checked as `sweep` says."""

    def __init__(self, executor: Executor | None, jobs: int | None, checkpoint_seconds: float = 30.0) -> None:
        if executor is None and is_starting():
            raise SystemExit(1)  # the parent says why: see ProcessNotStartedError
        self.jobs = None if jobs is None else require_integer("jobs", jobs, 1)
        if jobs is not None and executor is not None:
            raise ValueError(
                "jobs: is for processes of this machine; an executor has its own number of workers"
            )
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(f"executor: must be a concurrent.futures.Executor, not {executor!r}")
        self.executor, self.checkpoint_seconds = executor, require_seconds(checkpoint_seconds)


def sweep_members(
    config: RunConfig, members: list[Member], folder: Path, prepared: Prepared, workers: Workers
) -> xr.Dataset:
    """Compute what is unfinished of a sweep, whose folder is claimed for a settled configuration."""
    unfinished = [member for member in members if not is_finished(folder / member.folder)]
    if not unfinished:
        dataset = _of_members(folder, members)
        with suppress(OSError):  # a folder of finished runs need not be writable
            _keep(folder, dataset)
        return dataset
    files.writable_folder("out", folder)
    most, seconds = runs_side_by_side(config, prepared), workers.checkpoint_seconds
    if workers.executor is not None:
        failures = _run_all(grouped(config, unfinished, most, 1), folder, workers.executor, seconds)
    else:
        jobs = workers.jobs or default_jobs(config.training.device)
        failures = _run_in_processes(grouped(config, unfinished, most, jobs), folder, jobs, seconds)
    if failures:
        raise SweepError(failures, folder)
    dataset = _of_members(folder, members)
    _keep(folder, dataset)
    return dataset


def _of_members(folder: Path, members: list[Member]) -> xr.Dataset:
    finished = finished_members(folder)
    return of_runs(folder, {member: finished[member] for member in members})


def _keep(folder: Path, dataset: xr.Dataset) -> None:
    with files.exclusive(folder):
        files.remove_partial(folder, SWEEP)
        files.write_dataset(folder / SWEEP, dataset)


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
    for other in [*stored_members(folder), *finished_members(folder)]:
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


def _run_in_processes(groups: list[Group], folder: Path, jobs: int, seconds: float) -> dict[Member, str]:
    """Compute groups of runs in processes of this machine and return the errors of the runs that failed.

    Runs whose process is killed, by lack of memory for instance, are taken up once more when the others are
    done, alone.
    """
    devices = devices_to_share(groups[0].config.training.device)
    with Processes(min(jobs, len(groups)), devices) as processes:
        failures = _run_all(groups, folder, processes, seconds)
    killed = {member for member, error in failures.items() if error.startswith(BrokenProcessPool.__name__)}
    if not killed:
        return failures
    with Processes(1, devices) as process:
        again = [group for group in groups if killed & set(group.members)]
        failures_then = _run_all(again, folder, process, seconds)
    return {member: error for member, error in failures.items() if member not in killed} | failures_then


def _run_all(groups: list[Group], folder: Path, executor: Executor, seconds: float) -> dict[Member, str]:
    """Compute groups of runs, showing progress, and return the errors of the runs that failed."""
    futures = {executor.submit(run_group, group, folder, seconds): group for group in groups}
    _show_progress(futures, folder)
    failures: dict[Member, str] = {}
    for future, group in futures.items():
        if future.cancelled():
            lost = "given up by the executor, which lost its workers or its scheduler"
            failures |= dict.fromkeys(group.unfinished(folder), lost)
            continue
        error = future.exception()
        if error is None:
            failures |= future.result()
            continue
        if isinstance(error, ProcessNotStartedError):
            raise error
        for member in group.unfinished(folder):
            failures[member] = described(error)
            run = folder / member.folder
            if run.exists() and not (run / ERROR_LOG).exists():
                log_error(run, error)
    return failures


def _show_progress(futures: dict[Future[dict[Member, str]], Group], folder: Path) -> None:
    """Show one bar for the sweep, on a terminal only, until all futures are done."""
    length = next(iter(futures.values())).config.training.iterations
    runs = sum(len(group.members) for group in futures.values())
    with ProgressBar(runs * length, unit="it", smoothing=0.05) as bar:
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            ended, running = 0, {}
            for future, group in futures.items():
                if future not in waiting:
                    ended += len(group.members)
                    continue
                for member in group.members:
                    progress = read_progress(folder / member.folder)
                    if progress is not None:
                        running[member] = progress
            bar.describe(f"{ended}/{runs} runs")
            bar.note(_first_of(running))
            bar.update_to(ended * length + sum(at for at, _ in running.values()))


def _first_of(running: dict[Member, tuple[int, float]]) -> str:
    """Return the losses of some of the runs that are computed, and how many others there are."""
    shown = [f"{member}: U {loss:.4g}" for member, (_, loss) in list(running.items())[:_SHOWN]]
    others = len(running) - len(shown)
    return "; ".join([*shown, f"and {others} others"] if others else shown)
