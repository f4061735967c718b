"""A sweep: the same run at many learning rates, on any executor of concurrent.futures."""

import socket
import traceback
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import torch
import xarray as xr
from tqdm import tqdm

from pythermo.experiment import storage
from pythermo.experiment.config import RunConfig
from pythermo.experiment.processes import Processes, default_jobs, devices_to_share
from pythermo.experiment.run import MEASUREMENTS, PROGRESS, run_alone

SWEEP, ERROR_LOG = "sweep.nc", "error.log"


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the others are finished and on disk.

    Attributes
    ----------
    failures : dict of float to str
        The last line of the error of each learning rate that failed.
    """

    def __init__(self, failures: dict[float, str], folder: Path) -> None:
        self.failures = failures
        lines = [f"  lr {lr:.6g}: {error}{_log_of(folder, lr)}" for lr, error in failures.items()]
        first = f"{len(failures)} of the sweep's runs failed:"
        last = "Finished runs are kept. The same call goes on with the others, from any checkpoints."
        super().__init__("\n".join([first, *lines, last]))


def _log_of(folder: Path, lr: float) -> str:
    log = run_folder(folder, lr) / ERROR_LOG
    return f" (log: {log})" if log.exists() else ""


def run_folder(out: Path, lr: float) -> Path:
    """Return the folder of the run at one learning rate."""
    return out / f"lr_{lr!r}"


def sweep(
    config: RunConfig,
    lr: Iterable[float],
    out: str | Path,
    executor: Executor | None = None,
    jobs: int | None = None,
    checkpoint_seconds: float = 30.0,
) -> xr.Dataset:
    """Run one configuration at many learning rates.

    Parameters
    ----------
    config : RunConfig
        The run; its own learning rate does not matter.
    lr : iterable of float
        Learning rates, positive and different from each other.
    out : path
        Folder of the sweep: a folder per run and, when all are finished, ``sweep.nc``. Called again,
        finished runs are skipped, unfinished ones go on, and learning rates may be added. On several
        machines it must lie on a file system that they share, at the same path. No run is ever worked on
        by two processes: the second waits.
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
        The measurements of these learning rates along the dimension ``lr``, ascending.

    Raises
    ------
    SweepError
        After all other runs are finished, with the learning rates that failed; each has an
        ``error.log`` in its folder.
    ValueError
        For no or repeated learning rates, a folder that another configuration made, or ``jobs`` beside
        an executor.
    """
    rates = sorted(float(rate) for rate in lr)
    if not rates or len(set(rates)) != len(rates):
        raise ValueError("lr: at least one learning rate is needed, and none may repeat")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: must be at least 1, not {jobs}")
    if jobs is not None and executor is not None:
        raise ValueError("jobs: is for processes of this machine; an executor has its own number of workers")
    configs = {rate: config.with_lr(rate) for rate in rates}
    folder = Path(out).resolve()
    with storage.exclusive(folder):
        storage.claim_folder(folder, config.model_dump(exclude_none=True, exclude={"lr"}))
    threads = torch.get_num_threads()
    try:
        if executor is not None:
            failures = _run_all(configs, folder, executor, checkpoint_seconds)
        else:
            jobs = jobs or default_jobs(config.training.device)
            failures = _run_in_processes(configs, folder, jobs, checkpoint_seconds)
    finally:
        torch.set_num_threads(threads)  # runs in threads of this process had set it to 1
    if failures:
        raise SweepError(failures, folder)
    dataset = load_sweep(folder).sel(lr=rates)
    with storage.exclusive(folder):
        storage.write_dataset(folder / SWEEP, dataset)
    return dataset


def load_sweep(out: str | Path) -> xr.Dataset:
    """Read the finished runs of a sweep.

    Parameters
    ----------
    out : path
        Folder of the sweep, or its NetCDF file.

    Returns
    -------
    xarray.Dataset
        As `sweep`; without the runs that are not finished.

    Raises
    ------
    FileNotFoundError
        If there is no finished run.
    """
    path = Path(out)
    if path.is_file():
        return storage.read_dataset(path)
    runs = [storage.read_dataset(found) for found in path.glob(f"lr_*/{MEASUREMENTS}")]
    if not runs:
        raise FileNotFoundError(f"out: {path} holds no finished run of a sweep")
    runs.sort(key=lambda one: float(one["lr"]))
    return xr.concat(
        runs,
        dim="lr",
        combine_attrs="drop_conflicts",
        data_vars="all",
        join="exact",
        coords="minimal",
        compat="equals",
    )


def _run_in_processes(
    configs: dict[float, RunConfig], folder: Path, jobs: int, checkpoint_seconds: float
) -> dict[float, str]:
    """Compute all runs in processes of this machine and return the errors of those that failed.

    A run whose process is killed, by lack of memory for instance, is taken up once more when the others are
    done, alone.
    """
    devices = devices_to_share(next(iter(configs.values())).training.device)
    with Processes(min(jobs, len(configs)), devices) as processes:
        failures = _run_all(configs, folder, processes, checkpoint_seconds)
    killed = [rate for rate, error in failures.items() if error.startswith(BrokenProcessPool.__name__)]
    if not killed:
        return failures
    with Processes(1, devices) as process:
        again = _run_all({rate: configs[rate] for rate in killed}, folder, process, checkpoint_seconds)
    return {rate: error for rate, error in failures.items() if rate not in killed} | again


def _run_all(
    configs: dict[float, RunConfig], folder: Path, executor: Executor, checkpoint_seconds: float
) -> dict[float, str]:
    """Compute all runs, showing progress, and return the errors of those that failed."""
    futures = {
        executor.submit(_run_one, config, run_folder(folder, rate), checkpoint_seconds): rate
        for rate, config in configs.items()
    }
    _show_progress(futures, configs, folder)
    failures = {}
    for future, rate in futures.items():
        if future.cancelled():
            failures[rate] = "given up by the executor, which lost its workers or its scheduler"
            continue
        error = future.exception()
        if error is None:
            continue
        failures[rate] = f"{type(error).__name__}: {error}"
        if run_folder(folder, rate).exists() and not (run_folder(folder, rate) / ERROR_LOG).exists():
            _log_error(run_folder(folder, rate), error)
    return failures


def _run_one(config: RunConfig, folder: Path, checkpoint_seconds: float) -> None:
    """Compute one run in a worker: one thread, so that results do not depend on the machine's cores."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"out: {folder.parent} is not to be seen from {socket.gethostname()}; the folder of a sweep must "
            "lie on a file system that all workers share, at the same path"
        )
    torch.set_num_threads(1)
    with storage.exclusive(folder):
        try:
            run_alone(config, folder, _ReportToFile(folder / PROGRESS), checkpoint_seconds)
        except Exception as error:
            _log_error(folder, error)
            raise
        finally:
            (folder / PROGRESS).unlink(missing_ok=True)
        (folder / ERROR_LOG).unlink(missing_ok=True)


def _log_error(folder: Path, error: BaseException) -> None:
    """Leave the traceback of an error in a run's folder, if the disk has room for it."""
    with suppress(OSError):
        storage.write_text(folder / ERROR_LOG, "".join(traceback.format_exception(error)))


class _ReportToFile:
    """Leaves iteration and loss in a file: any process that shares the folder can show them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, iteration: int, loss: float) -> None:
        part = self._path.with_suffix(".part")
        with suppress(OSError):  # a full disk: what cannot be shown need not end the run
            part.write_text(f"{iteration} {loss!r}")
            part.replace(self._path)


def _show_progress(futures: dict[Future[None], float], configs: dict[float, RunConfig], folder: Path) -> None:
    """Show one bar for the sweep, on a terminal only, until all futures are done."""
    lengths = {rate: config.training.iterations for rate, config in configs.items()}
    with tqdm(total=sum(lengths.values()), unit="it", disable=None, smoothing=0.05) as bar:
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            running = {}
            for rate in (futures[future] for future in waiting):
                progress = _read_progress(run_folder(folder, rate) / PROGRESS)
                if progress is not None:
                    running[rate] = progress
            ended = [rate for future, rate in futures.items() if future not in waiting]
            bar.set_description(f"{len(ended)}/{len(futures)} runs")
            bar.set_postfix_str(
                "; ".join(f"lr {rate:.3g} U {loss:.4g}" for rate, (_, loss) in running.items()),
                refresh=False,
            )
            position = sum(lengths[rate] for rate in ended) + sum(at for at, _ in running.values())
            bar.update(max(position - bar.n, 0))


def _read_progress(path: Path) -> tuple[int, float] | None:
    try:
        iteration, loss = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(iteration), float(loss)
