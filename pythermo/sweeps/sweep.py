"""A sweep: the same run at many learning rates and seeds, on any executor of concurrent.futures."""

from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import xarray as xr

from pythermo._checks import require_integer
from pythermo._progress import ProgressBar
from pythermo.config.member import Member
from pythermo.config.schema import RunConfig
from pythermo.ops._devices import default_jobs, devices_to_share
from pythermo.sweeps import files
from pythermo.sweeps.engine import Prepared, runs_side_by_side, settled
from pythermo.sweeps.group import ERROR_LOG, Group, described, grouped, log_error, read_progress, run_group
from pythermo.sweeps.members import claim_sweep, finished_members, members_of, of_runs, stored_values
from pythermo.sweeps.run import is_finished, require_seconds
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
