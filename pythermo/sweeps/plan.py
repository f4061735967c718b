"""What a sweep would take: runs, memory, and the time by a probe of a few steps on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from statistics import median

import torch

from pythermo import ops
from pythermo.config.preset import Preset
from pythermo.config.schedule import measured_iterations
from pythermo.estimators.entropy import default_ks
from pythermo.sweeps.cost import curvature_images, measurement_images, start_gradients, window_bytes
from pythermo.sweeps.engine import Prepared, runs_side_by_side, settled, trainer_of
from pythermo.training.torch_settings import own_settings

_PROBED_STEPS = 5
_PROBED_WEIGHTS = 20_000  # of an entropy, whose time grows as their number


@dataclass(frozen=True)
class Plan:
    """A sweep before it is run; seconds are those of the runs that one process computes at a time.

    Attributes
    ----------
    axes : dict of str to list of float
        The values of what it goes over but for seeds, ascending: of "lr", say.
    seeds : int
        Number of runs at each cell of these.
    engine : {"lanes", "torch"}
        What computes them.
    side_by_side : int
        Number of runs that one process computes at a time.
    iterations, measurements, weights : int
        Of each run.
    start_gradients : int
        Minibatch gradients by which each run predicts its norm.
    window_bytes, data_bytes : int
        Memory of each run for the iterates of the entropy, and of each process for the images.
    step_seconds, measurement_seconds : float
        Probed and computed from that; the mean of all measurements.
    """

    axes: dict[str, list[float]]
    seeds: int
    engine: str
    side_by_side: int
    iterations: int
    measurements: int
    weights: int
    start_gradients: int
    window_bytes: int
    data_bytes: int
    step_seconds: float
    measurement_seconds: float

    @property
    def runs(self) -> int:
        """How many runs the sweep has."""
        return prod(map(len, self.axes.values())) * self.seeds

    @property
    def run_seconds(self) -> float:
        """An estimate of the time of one run, or of those side by side."""
        steps = self.iterations + self.start_gradients
        return steps * self.step_seconds + self.measurements * self.measurement_seconds

    def sweep_seconds(self, jobs: int) -> float:
        """Return an estimate of the time of all runs, in so many processes."""
        groups = -(-self.runs // self.side_by_side)
        return -(-groups // jobs) * self.run_seconds


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
    axes = {axis: sorted(values) for axis, values in preset.axes.items()}
    runs = prod(map(len, axes.values())) * preset.seeds
    prepared = Prepared(preset.run)
    config = settled(preset.run, None, runs, prepared)
    measurement, device = config.measurement, config.training.device
    side_by_side = min(runs_side_by_side(config, prepared), runs)
    with own_settings():
        # Without the memory of the window, which no step needs.
        probed = config.changed(lr=axes["lr"][0], **{"measurement.window": 2})
        trainer = trainer_of([probed] * side_by_side, prepared.images)
        step_seconds = _median_seconds(trainer.step, device)
        weights, images = trainer.runs[0].dim, trainer.data
        entropy_seconds = side_by_side * _entropy_seconds(weights, measurement.window, device)
    once = measurement_images(
        measurement, config.training.batch_size, weights, len(images.train_labels), len(images.test_labels)
    )
    measurements = len(measured_iterations(config.training.iterations, measurement.count, measurement.late))
    curvature = curvature_images(measurement, config.training.batch_size, len(images.train_labels))
    passes = once.passes + min(measurement.stationary, measurements) / measurements * curvature
    return Plan(
        axes=axes,
        seeds=preset.seeds,
        engine=config.training.engine,
        side_by_side=side_by_side,
        iterations=config.training.iterations,
        measurements=measurements,
        weights=weights,
        start_gradients=start_gradients(config.training),
        window_bytes=window_bytes(measurement, weights),
        data_bytes=images.train_images.nbytes + images.test_images.nbytes,
        step_seconds=step_seconds,
        measurement_seconds=passes / config.training.batch_size * step_seconds + entropy_seconds,
    )


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
