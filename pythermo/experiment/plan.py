"""What a sweep would take: runs, memory, and the time by a probe of a few steps on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from pythermo import ops
from pythermo.entropy import default_ks
from pythermo.experiment.config import Preset, RunConfig
from pythermo.experiment.measure import gradients_are_kept
from pythermo.experiment.network import weights_of
from pythermo.experiment.processes import one_torch_thread
from pythermo.experiment.run import Trainer
from pythermo.experiment.schedule import measured_iterations

_PROBED_STEPS = 5
_PROBED_WEIGHTS = 20_000  # of an entropy, whose time grows as their number
_FORWARD_SHARE = 1 / 3  # of a forward and backward pass


@dataclass(frozen=True)
class Plan:
    """A sweep before it is run; seconds are those of one run in one thread, or on the preset's device.

    Attributes
    ----------
    lr : list of float
        The learning rates, ascending: one run each.
    iterations, measurements, weights : int
        Of each run.
    window_bytes, data_bytes : int
        Memory of each run for the iterates of the entropy, and for the images.
    step_seconds, measurement_seconds : float
        Probed and computed from that.
    """

    lr: list[float]
    iterations: int
    measurements: int
    weights: int
    window_bytes: int
    data_bytes: int
    step_seconds: float
    measurement_seconds: float

    @property
    def run_seconds(self) -> float:
        """An estimate of the time of one run."""
        return self.iterations * self.step_seconds + self.measurements * self.measurement_seconds

    def sweep_seconds(self, jobs: int) -> float:
        """Return an estimate of the time of all runs, so many at a time."""
        return -(-len(self.lr) // jobs) * self.run_seconds


def plan(preset: Preset) -> Plan:
    """Return what a preset's sweep would take.

    Raises
    ------
    ValueError, FileNotFoundError
        As the sweep would: for data or a device that are not there, say.

    Notes
    -----
    The time of a step is the median of a few, that of a measurement is computed from it and from one
    entropy of fewer weights; other processes on the machine and its memory are not thought of.
    """
    config = preset.run
    measurement = config.measurement
    with one_torch_thread():
        trainer = Trainer(_with_a_short_window(config.with_lr(min(preset.lr))))
        step_seconds = _median_seconds(trainer.step, config.training.device)
        weights, images = weights_of(trainer.model), trainer.data
        entropy_seconds = _entropy_seconds(weights, measurement.window, config.training.device)
    evaluated = _FORWARD_SHARE * (len(images.train_labels) + len(images.test_labels))
    if measurement.full_gradient == "evaluation":
        evaluated += (1 - _FORWARD_SHARE) * len(images.train_labels)
    once = gradients_are_kept(measurement, weights) or measurement.full_gradient == "evaluation"
    batches = (1 if once else 2) * measurement.gradients + evaluated / config.training.batch_size
    return Plan(
        lr=sorted(preset.lr),
        iterations=config.training.iterations,
        measurements=len(measured_iterations(config.training.iterations, measurement.count)),
        weights=weights,
        window_bytes=4 * measurement.window * weights,
        data_bytes=images.train_images.nbytes + images.test_images.nbytes,
        step_seconds=step_seconds,
        measurement_seconds=batches * step_seconds + entropy_seconds,
    )


def _with_a_short_window(config: RunConfig) -> RunConfig:
    """Return the configuration without the memory of its window, which no step needs."""
    short = config.measurement.model_copy(update={"window": 2})
    return config.model_copy(update={"measurement": short})


def _entropy_seconds(weights: int, window: int, device: str) -> float:
    fewer = min(weights, _PROBED_WEIGHTS)
    points = torch.randn(window, fewer, device=device)
    return weights / fewer * _seconds(lambda: ops.knn_distance_sums(points, default_ks(window)), device)


def _median_seconds(call: Callable[[], object], device: str) -> float:
    call()  # libraries choose their algorithms
    return median(_seconds(call, device) for _ in range(_PROBED_STEPS))


def _seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
