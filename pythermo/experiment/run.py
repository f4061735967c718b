"""One run: training at a fixed learning rate, its measurements, and how it goes on after a stop."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

import pythermo
from pythermo import data, ops
from pythermo.entropy import default_ks
from pythermo.experiment import storage
from pythermo.experiment.config import RunConfig
from pythermo.experiment.draws import BATCHES, BatchesOnDevice
from pythermo.experiment.images import load_data
from pythermo.experiment.measure import GradientMeter, evaluate
from pythermo.experiment.network import build_model, set_weights_
from pythermo.experiment.schedule import kept_iterations, measured_iterations, recorded_iterates
from pythermo.experiment.snapshots import keep_snapshot
from pythermo.experiment.steps import captured_step, plain_step, reproducible_kernels
from pythermo.models.layers import trained_parameters
from pythermo.models.losses import LOSSES, constant_prediction_loss
from pythermo.ops._devices import require_device
from pythermo.optim import ProjectedSGD
from pythermo.trajectory_entropy import TrajectoryEntropy

MEASUREMENTS, CHECKPOINT, PROGRESS = "measurements.nc", "checkpoint.pt", "progress.txt"

# Time between checkpoints, in units of what one takes: at least this.
_STEPPING_PER_CHECKPOINT = 19.0

_UNITS = {
    "loss": ("training loss U", "loss units"),
    "test_loss": ("test loss", "loss units"),
    "train_accuracy": ("share of training labels predicted", "1"),
    "test_accuracy": ("share of test labels predicted", "1"),
    "entropy": ("entropy S of the last window of iterates", "nats"),
    "entropy_error": ("standard error of the entropy by a block jackknife", "nats"),
    "effective_samples": ("effective number of independent iterates in the window", "1"),
    "snr": ("signal-to-noise ratio of the gradient", "1"),
    "snr_l1": ("signal-to-noise ratio by the mean noise norm", "1"),
    "full_grad_norm": ("norm of the full gradient", "loss units"),
    "squared_full_grad_norm": ("squared norm of the full gradient", "loss units squared"),
    "mean_grad_norm": ("mean norm of minibatch gradients", "loss units"),
    "mean_squared_grad_norm": ("mean squared norm of minibatch gradients", "loss units squared"),
    "mean_noise_norm": ("mean norm of the gradient noise", "loss units"),
    "rms_noise_norm": ("root mean square of the gradient noise", "loss units"),
}

# Says how far a run is: iteration and, where it was just measured, the loss.
Report = Callable[[int, float], None]


class Trainer:
    """A network on its way: it steps, it measures, and it can be put down and taken up again.

    Parameters
    ----------
    config : RunConfig
        What defines the run, and nothing else does: the same configuration gives the same bits on the
        same machine with the same number of threads.
    images : Images, optional
        Images of the caller's own in the place of those that ``config.data`` names, which then says nothing
        about the run.
    """

    def __init__(self, config: RunConfig, images: data.Images | None = None) -> None:
        training, measurement = config.training, config.measurement
        device = require_device(training.device)
        self.config = config
        self.data = (load_data(config) if images is None else images).to(device)
        self.model = build_model(config.model, training, self.data).to(device)
        self.params = trained_parameters(self.model)
        self.optimizer = ProjectedSGD(
            self.params, lr=config.lr, radius=training.radius, retraction=training.retraction
        )
        batches = BATCHES[training.sampling](len(self.data.train_labels), training.batch_size, training.seed)
        self.batches = BatchesOnDevice(batches, device)
        self.loss = LOSSES[training.loss]
        self.meter = GradientMeter(
            self.model, self.loss, self.params, self.data, training.batch_size, measurement
        )
        self.measured = measured_iterations(training.iterations, measurement.count)
        self._kept = set(kept_iterations(training.iterations, measurement.snapshots).tolist())
        self._recorded = recorded_iterates(training.iterations, self.measured, measurement.window)
        self._window = TrajectoryEntropy(
            sum(param.numel() for param in self.params),
            measurement.window,
            default_ks(measurement.window),
            device=device if training.window_device == "device" else "cpu",
            pinned=training.window_device == "host",
        )
        if training.cuda_graph:
            self._step = captured_step(self.model, self.loss, self.optimizer, self.data, training.batch_size)
        else:
            self._step = plain_step(self.model, self.loss, self.optimizer, self.data)
        self.rows: list[dict[str, Any]] = []
        self.iteration = 0
        self._record()

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done and measured."""
        return self.iteration >= self.config.training.iterations and not self.measurement_due

    @property
    def snapshot_due(self) -> bool:
        """Whether the current weights are to be kept."""
        return self.iteration in self._kept

    @property
    def measurement_due(self) -> bool:
        """Whether the current iterate is to be measured and has not been."""
        return len(self.rows) < len(self.measured) and self.measured[len(self.rows)] == self.iteration

    def step(self) -> None:
        """Make one training step."""
        self._step(self.batches.at(self.iteration))
        self.iteration += 1
        self._record()

    def measure(self) -> None:
        """Measure the current iterate; the run goes on as if this had not been called."""
        ops.raise_failed_steps(self.config.training.device)
        images, settings = self.data, self.config.measurement
        train, full_gradient = self.meter.evaluate()
        test = evaluate(
            self.model, self.loss, images.test_images, images.test_labels, settings.evaluation_batch
        )
        noise = asdict(self.meter.noise_at(self.iteration, full_gradient))
        del noise["full_gradient"]  # the same for all measurements: an attribute
        ready = self.iteration >= settings.window - 1
        window = self._window.estimate() if ready else self._window.no_estimate()
        self.rows.append(
            {
                "loss": train.loss,
                "test_loss": test.loss,
                "train_accuracy": train.accuracy,
                "test_accuracy": test.accuracy,
                "entropy": window.entropy.tolist(),
                "entropy_error": window.standard_error.tolist(),
                "effective_samples": window.effective_samples,
                **noise,
            }
        )

    def weights(self) -> torch.Tensor:
        """Return a copy of the trained weights [D]."""
        return torch.cat([param.detach().flatten() for param in self.params])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the run needs to go on to bit-equal results."""
        return {
            "iteration": self.iteration,
            "weights": self.weights().cpu(),
            "buffers": {name: buffer.to("cpu", copy=True) for name, buffer in self.model.named_buffers()},
            "window": self._window.state_dict(),
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same configuration."""
        set_weights_(self.params, state["weights"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        self._window.load_state_dict(state["window"])
        self.rows = list(state["rows"])
        self.iteration = state["iteration"]

    def to_dataset(self) -> xr.Dataset:
        """Return the measurements so far."""
        columns = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        variables = {
            name: (
                ("iteration", "k") if values.ndim == 2 else ("iteration",),
                values,
                dict(zip(("long_name", "units"), _UNITS[name], strict=True)),
            )
            for name, values in columns.items()
        }
        return xr.Dataset(
            variables,
            coords={
                "iteration": ("iteration", self.measured[: len(self.rows)], {"units": "iterations"}),
                "k": ("k", self._window.ks, {"long_name": "number of neighbours"}),
                "lr": ((), self.config.lr, {"long_name": "learning rate"}),
            },
            attrs={
                "config": self.config.to_toml(),
                "weights": sum(param.numel() for param in self.params),
                "constant_loss": constant_prediction_loss(
                    self.config.training.loss, self.data.train_labels.cpu()
                ),
                "full_gradient": self.config.measurement.full_gradient,
                "pythermo_version": pythermo.__version__,
                "torch_version": str(torch.__version__),
            },
        )

    def _record(self) -> None:
        if self._recorded[self.iteration]:
            self._window.append(self.weights())


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
        The run; see `pythermo.experiment.config`.
    out : path, optional
        Folder of the run: its configuration, its measurements (NetCDF), the weights that it keeps (see
        `pythermo.load_network`) and, until it is finished, its checkpoint. A finished run is read and not
        computed again; an unfinished one goes on to results that are bit-equal to those of an uninterrupted
        run with as many torch threads (`sweep` takes one). While another process works on the same folder,
        this one waits. Without a folder nothing is kept on disk.
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
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config: must be a pythermo.RunConfig, not {type(config).__name__}")
    if out is None:
        return _compute(config, None, report, checkpoint_seconds)
    with storage.exclusive(Path(out)):
        return run_alone(config, Path(out), report, checkpoint_seconds)


def run_alone(
    config: RunConfig, folder: Path, report: Report | None = None, checkpoint_seconds: float = 30.0
) -> xr.Dataset:
    """Do as `run` in a folder that the caller holds (`storage.exclusive`)."""
    storage.claim_folder(folder, config.model_dump(exclude_none=True))
    if (folder / MEASUREMENTS).exists():
        return storage.read_dataset(folder / MEASUREMENTS)
    dataset = _compute(config, folder, report, checkpoint_seconds)
    storage.write_dataset(folder / MEASUREMENTS, dataset)
    for leftover in (folder / CHECKPOINT, storage.partial(folder / CHECKPOINT)):
        leftover.unlink(missing_ok=True)
    return dataset


def _compute(
    config: RunConfig, folder: Path | None, report: Report | None, checkpoint_seconds: float
) -> xr.Dataset:
    """Train from the start or the folder's checkpoint to the end and return what was measured."""
    with reproducible_kernels():
        trainer = Trainer(config)
        if folder is not None and (folder / CHECKPOINT).exists():
            trainer.load_state_dict(storage.read_state(folder / CHECKPOINT))
        if report is not None:
            _train(trainer, folder, report, checkpoint_seconds)
        else:
            with tqdm(total=config.training.iterations, unit="it", disable=None) as bar:
                bar.set_description(f"lr {config.lr:.3g}")
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
            storage.write_state(folder / CHECKPOINT, trainer.state_dict())
            written = time.monotonic()
            next_checkpoint = written + max(checkpoint_seconds, _STEPPING_PER_CHECKPOINT * (written - now))


def _report_to(bar: "tqdm[Any]") -> Report:
    def report(iteration: int, loss: float) -> None:
        bar.set_postfix_str(f"U {loss:.4g}", refresh=False)
        bar.update(iteration - bar.n)

    return report
