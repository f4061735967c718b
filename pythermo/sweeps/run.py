"""One run, kept in a folder: how it starts, goes on after a stop, and is read once it is finished."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import xarray as xr

from pythermo._checks import require_number
from pythermo._progress import ProgressBar
from pythermo.config.schema import RunConfig
from pythermo.sweeps import files
from pythermo.sweeps.snapshots import MEASUREMENTS, keep_snapshot
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

CHECKPOINT, PROGRESS = "checkpoint.pt", "progress.txt"

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
    if out is None:
        return _compute(config, None, report, checkpoint_seconds)
    folder = files.as_path("out", out)
    if is_finished(folder):
        return _read_finished(config, folder)
    with files.exclusive(folder):
        return run_alone(config, folder, report, checkpoint_seconds)


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
        (folder / CHECKPOINT).unlink(missing_ok=True)  # a process was killed before it did so
    return dataset


def run_alone(
    config: RunConfig, folder: Path, report: Report | None = None, checkpoint_seconds: float = 30.0
) -> xr.Dataset:
    """Do as `run` in a folder that the caller holds (`files.exclusive`)."""
    if not is_finished(folder):
        files.claim_folder(folder, config)
        files.remove_partial(folder)
    if is_finished(folder):
        return _read_finished(config, folder)
    dataset = _compute(config, folder, report, checkpoint_seconds)
    files.write_dataset(folder / MEASUREMENTS, dataset)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return dataset


def _compute(
    config: RunConfig, folder: Path | None, report: Report | None, checkpoint_seconds: float
) -> xr.Dataset:
    """Train from the start or the folder's checkpoint to the end and return what was measured."""
    with own_settings():
        trainer = Trainer(config)
        if folder is not None and (folder / CHECKPOINT).exists():
            with files.reading(folder / CHECKPOINT, "remove it, and the run starts anew"):
                trainer.load_state_dict(files.read_state(folder / CHECKPOINT))
        if report is not None:
            _train(trainer, folder, report, checkpoint_seconds)
        else:
            with ProgressBar(config.training.iterations, unit="it") as bar:
                bar.describe(f"lr {config.lr:.3g}")
                _train(trainer, folder, _report_to(bar), checkpoint_seconds)
    return trainer.to_dataset()


def _train(trainer: Trainer, folder: Path | None, report: Report, checkpoint_seconds: float) -> None:
    """Step and measure to the end, with reports and checkpoints in between."""
    last_report = time.monotonic()
    next_checkpoint = last_report + checkpoint_seconds
    while not trainer.finished:
        if folder is not None and trainer.snapshot_due:
            keep_snapshot(folder, trainer.iteration, trainer.model)
        if trainer.measurement_due:
            trainer.measure()
        else:
            trainer.step()
        now = time.monotonic()
        if now - last_report >= 1.0 or trainer.finished:
            report(trainer.iteration, trainer.rows[-1]["loss"])
            last_report = now
        if folder is not None and now >= next_checkpoint:
            files.write_state(folder / CHECKPOINT, trainer.state_dict())
            written = time.monotonic()
            next_checkpoint = written + max(checkpoint_seconds, _STEPPING_PER_CHECKPOINT * (written - now))


def _report_to(bar: ProgressBar) -> Report:
    def report(iteration: int, loss: float) -> None:
        bar.note(f"U {loss:.4g}")
        bar.update_to(iteration)

    return report
