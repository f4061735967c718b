"""One run, kept in a folder: how it starts, goes on after a stop, and is read once it is finished."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr

from pythermo._checks import require_number
from pythermo._progress import ProgressBar
from pythermo.config.schema import RunConfig
from pythermo.sweeps import files
from pythermo.sweeps.engine import Prepared, settled, trainer_of
from pythermo.sweeps.snapshots import MEASUREMENTS, keep_snapshot
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.record import Record
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

CHECKPOINT, PROGRESS, SO_FAR = "checkpoint.pt", "progress.txt", "so_far.nc"

# Time between checkpoints, in units of what one takes: at least this.
_STEPPING_PER_CHECKPOINT = 19.0

# Says how far a run is: iteration and, where it was just measured, the loss.
Report = Callable[[int, float], None]


def run(
    config: RunConfig,
    out: str | Path | None = None,
    report: Report | None = None,
    checkpoint_seconds: float = 30.0,
) -> xr.Dataset:
    """Train one network at one learning rate and measure it along the way.

    Parameters
    ----------
    config : RunConfig
        The run; see `pythermo.config.schema`.
    out : path, optional
        Folder of the run: its configuration, its measurements (NetCDF), the weights that it keeps (see
        `pythermo.load_network`) and, until it is finished, its checkpoint. A finished run is read and not
        computed again; an unfinished one goes on to results that are bit-equal to those of an uninterrupted
        run. While another process works on the same folder, this one waits. Without a folder nothing is kept
        on disk.
    report : callable, optional
        Called with iteration and last measured loss U, about once a second and at the end; a
        progress bar, shown on a terminal only, if not given.
    checkpoint_seconds : float
        Seconds between checkpoints; more where they would take over a twentieth of the time. They do not
        change the results. A checkpoint holds the window of iterates: ``window * D`` numbers.

    Returns
    -------
    xarray.Dataset
        Loss, accuracies, entropies (nats), SNR and gradient norms with the dimensions ``iteration`` and
        ``k``; NaN where an entropy's window was not full yet.

    Raises
    ------
    ValueError
        For a folder that another configuration made, naming the keys that differ.
    TypeError
        For a ``config`` that is not a RunConfig.

    Notes
    -----
    The results depend on the configuration alone: the caller's autocast, default dtype and device, threads
    and the like are set aside, and found again as they were. Like the runs of a sweep it takes one thread.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config: must be a pythermo.RunConfig, not {type(config).__name__}")
    if report is not None and not callable(report):
        raise TypeError(f"report: must be called with iteration and loss, which {report!r} cannot be")
    checkpoint_seconds = require_seconds(checkpoint_seconds)
    folder = None if out is None else files.as_path("out", out)
    config = settled(config, folder, 1, Prepared(config))
    if folder is not None and is_finished(folder):
        return _read_finished(config, folder)
    with ExitStack() as held:
        if folder is not None:
            held.enter_context(files.exclusive(folder))
        if report is None:
            bar = held.enter_context(ProgressBar(config.training.iterations, unit="it"))
            bar.describe(f"lr {config.lr:.3g}")
            report = _report_to(bar)
        task = Task(config, folder, report)
        compute([task], checkpoint_seconds)
    return task.result()


def require_seconds(value: Any) -> float:
    """Return seconds between checkpoints, or raise naming the argument."""
    seconds = require_number("checkpoint_seconds", value)
    if not seconds >= 0.0:
        raise ValueError(f"checkpoint_seconds: must be 0 or more, not {value}")
    return seconds


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds a run with all that was measured of it."""
    return (folder / MEASUREMENTS).exists() and (folder / files.CONFIG).exists()


def _read_finished(config: RunConfig, folder: Path) -> xr.Dataset:
    """Read a finished run, without its lock: the folder need not be writable."""
    files.check_folder(folder, config)
    dataset = files.read_dataset(folder / MEASUREMENTS, "remove it, and the same call computes the run anew")
    with suppress(OSError):
        _remove_unfinished(folder)  # a process was killed before it did so
    return dataset


def _remove_unfinished(folder: Path) -> None:
    for name in (CHECKPOINT, SO_FAR):
        (folder / name).unlink(missing_ok=True)


def compute(tasks: Sequence["Task"], checkpoint_seconds: float) -> None:
    """Compute runs, side by side if their engine does so, in folders that the caller holds."""
    for task in tasks:
        task.look_for_results()
    left = [task for task in tasks if task.outcome is None]
    if left:
        with own_settings():
            _train(trainer_of([task.config for task in left]), left, checkpoint_seconds)


def _train(trainer: Trainer | LaneTrainer, tasks: Sequence["Task"], checkpoint_seconds: float) -> None:
    """Step and measure until all runs have ended, with reports and checkpoints in between."""
    for task, run in zip(tasks, trainer.runs, strict=True):
        task.begin(run)
    last_report = time.monotonic()
    next_checkpoint = last_report + checkpoint_seconds
    while going := [task for task in tasks if not task.has_ended()]:
        for task in going:
            task.keep_snapshot()
        try:
            trainer.advance()
        except Exception as error:
            for task in going:
                task.outcome = error
        now = time.monotonic()
        if now - last_report >= 1.0:
            for task in going:
                task.say()
            last_report = now
        if now >= next_checkpoint:
            for task in going:
                task.write_checkpoint()
            written = time.monotonic()
            next_checkpoint = written + max(checkpoint_seconds, _STEPPING_PER_CHECKPOINT * (written - now))


class Task:
    """A run that is to be computed; what goes wrong with it is its outcome, and no other run's.

    Parameters
    ----------
    config : RunConfig
        The run, its engine settled.
    folder : path, optional
        Where it is kept.
    report : callable
        Hears how far it is.

    Attributes
    ----------
    outcome : Dataset or Exception
        What was measured, or why it is not; None before it has ended.
    """

    def __init__(self, config: RunConfig, folder: Path | None, report: Report) -> None:
        self.config, self.folder, self._report = config, folder, report
        self.outcome: xr.Dataset | Exception | None = None
        self._run: Record

    def look_for_results(self) -> None:
        """Take them from the folder if it is finished, else make it the run's."""
        if self.folder is None:
            return
        try:
            if is_finished(self.folder):
                self.outcome = _read_finished(self.config, self.folder)
            else:
                files.claim_folder(self.folder, self.config)
                files.remove_partial(self.folder)
        except Exception as error:
            self.outcome = error

    def begin(self, run: Record) -> None:
        """Let a run go on from the folder's checkpoint, if there is one."""
        self._run = run
        if self.folder is not None and (self.folder / CHECKPOINT).exists():
            path, remedy = self.folder / CHECKPOINT, "remove it, and the run starts anew"
            with self._own_errors():
                with files.reading(path, remedy):
                    state = files.read_state(path)
                run.require_state(state)
                with files.reading(path, remedy):
                    run.load_state_dict(state)

    def has_ended(self) -> bool:
        """Return whether the run is finished, and written, or has failed."""
        if self.outcome is None:
            self.outcome = self._run.failure
        if self.outcome is None and self._run.finished:
            with self._own_errors():
                self._finish()
        return self.outcome is not None

    def _finish(self) -> None:
        self.outcome = self._run.to_dataset()
        if self.folder is not None:
            files.write_dataset(self.folder / MEASUREMENTS, self.outcome)
            _remove_unfinished(self.folder)
        self.say()

    def result(self) -> xr.Dataset:
        """Return what was measured, or raise why it is not."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    def keep_snapshot(self) -> None:
        """Write the current weights if they are to be kept."""
        if self.folder is not None and self._run.snapshot_due:
            with self._own_errors():
                keep_snapshot(self.folder, self._run.iteration, self._run.network())

    def say(self) -> None:
        """Report how far the run is."""
        if self._run.rows:
            with self._own_errors():
                self._report(self._run.iteration, self._run.rows[-1]["loss"])

    def write_checkpoint(self) -> None:
        """Write all that the run needs to go on, and what was measured so far for those who watch it."""
        if self.folder is not None and self.outcome is None:
            with self._own_errors():
                files.write_state(self.folder / CHECKPOINT, self._run.state_dict())
                if self._run.rows:
                    files.write_dataset(self.folder / SO_FAR, self._run.to_dataset())

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.outcome = self._run.failure = error  # who trains it leaves it where it is


def _report_to(bar: ProgressBar) -> Report:
    def report(iteration: int, loss: float) -> None:
        bar.note(f"U {loss:.4g}")
        bar.update_to(iteration)

    return report
