"""What computes a run: torch, or lanes in which runs lie side by side; settled when a folder is made.

``training.engine = "auto"`` is settled by a fixed table, never by timing, for other engines give other bits:

* a single run: torch;
* a sweep of fewer than 8 runs: torch;
* a larger one on the CPU: lanes, if its network has only layers that lanes have, at most 64 channels, or 128
  in a sweep of 32 runs and more, and takes at most 2 GiB for 16 runs;
* a larger one on a CUDA device: lanes, if its network has only layers that lanes have, at most 128 channels,
  and 32 runs take at most 16 GiB.

With 128 channels on 28 x 28 images lanes are 1.1 times as fast as torch where a vector has 8 of them, and 1.4
times where it has 16 (``bench/results/ensemble.md``), if all are taken. On a device up to 64 channels were
measured (docs/cuda.md): torch's share of the card grows with them.
"""

from collections.abc import Sequence
from functools import cached_property
from math import prod
from pathlib import Path

import torch
from torch import nn

from pythermo import data
from pythermo.config.schema import RunConfig
from pythermo.ops._devices import free_memory, require_device
from pythermo.ops._lanes import DEVICE_LANES
from pythermo.ops.lanes_convolution import lanes_of_members
from pythermo.sweeps import files
from pythermo.sweeps.cost import window_bytes
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.lanes import passing_values
from pythermo.training.network import build_network
from pythermo.training.program import LayerNotKnownError, Program, read_program
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

_WIDEST = 128
_FEWEST_RUNS, _MOST_BYTES_ON_DEVICE = 8, 2**34
_WIDE, _FEWEST_WIDE_RUNS, _MOST_BYTES = 64, 32, 2**31  # on the CPU
_FLOAT32 = 4

# Of a device's free memory, what runs side by side may take.
_SHARE_OF_DEVICE = 0.8

# Memory that the windows of runs side by side may take in one process.
WINDOWS_BYTES = 2**32


class Prepared:
    """The images, the network and its layers of a sweep, each made once, when it is first asked for.

    The network is at its initial point, and not to be changed.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    @cached_property
    def images(self) -> data.Images:
        """Those that the configuration names."""
        with own_settings():
            return data.load(**self._config.data.model_dump())

    @cached_property
    def model(self) -> nn.Module:
        """The network; ValueError for one that cannot be used."""
        with own_settings():
            return build_network(self._config, self.images)

    @cached_property
    def program(self) -> Program:
        """Its layers; LayerNotKnownError for one that lanes do not have."""
        _, channels, height, width = self.images.train_images.shape
        with own_settings():
            return read_program(self.model, (channels, height, width))


def settled(config: RunConfig, folder: Path | None, runs: int, prepared: Prepared) -> RunConfig:
    """Return a configuration with the engine of its folder or, if there is none yet, of the table.

    Raises
    ------
    LayerNotKnownError
        Before a folder is made, for ``engine = "lanes"`` and a network with other layers, by their name.
    """
    engine: str = config.training.engine
    if folder is not None and (folder / files.CONFIG).exists():
        if engine == "auto":
            engine = files.read_config(folder).training.engine
    elif engine == "auto":
        engine = "lanes" if _lanes_by_table(config, runs, prepared) else "torch"
    elif engine == "lanes":
        _ = prepared.program
    return config.changed(**{"training.engine": engine})


def runs_side_by_side(config: RunConfig, prepared: Prepared) -> int:
    """Return how many runs of a settled configuration a process computes at a time.

    On a device those for which its memory has room, in whole groups of 32, and the host's if windows lie
    there.
    """
    training = config.training
    if training.engine != "lanes":
        return 1
    window = window_bytes(config.measurement, prepared.program.dim)
    if training.device == "cpu":
        return max(1, min(lanes_of_members(), WINDOWS_BYTES // window))
    device = require_device(training.device)
    group = DEVICE_LANES * bytes_of_run(config, prepared.program, passing=False)
    room = _SHARE_OF_DEVICE * free_memory(device)
    if training.window_device == "device":
        return max(1, int(room // (group + DEVICE_LANES * window))) * DEVICE_LANES
    windows = _SHARE_OF_DEVICE * free_memory(torch.device("cpu")) // (DEVICE_LANES * window)
    return max(1, int(min(room // group, windows))) * DEVICE_LANES


def trainer_of(configs: Sequence[RunConfig], images: data.Images | None = None) -> Trainer | LaneTrainer:
    """Return what trains runs of a settled configuration: several of them in lanes, torch's one by one."""
    if configs[0].training.engine == "lanes":
        return LaneTrainer(configs, images)
    (config,) = configs
    return Trainer(config, images)


def _lanes_by_table(config: RunConfig, runs: int, prepared: Prepared) -> bool:
    if runs < _FEWEST_RUNS:
        return False
    try:
        program = prepared.program
    except LayerNotKnownError:
        return False
    widest = max(channels for channels, _, _ in program.shapes)
    if widest > _WIDEST:
        return False
    if config.training.device != "cpu":
        return DEVICE_LANES * bytes_of_run(config, program, passing=False) <= _MOST_BYTES_ON_DEVICE
    if widest > _WIDE and runs < _FEWEST_WIDE_RUNS:
        return False
    return 16 * bytes_of_run(config, program, passing=True) <= _MOST_BYTES


def bytes_of_run(config: RunConfig, program: Program, passing: bool) -> int:
    """Return the memory of a run for values and gradients of a batch, and for values of an evaluation.

    Of an evaluation values that are ``passing`` from one layer to the next take none.
    """
    measurement = config.measurement
    with_gradients = config.training.batch_size
    if measurement.full_gradient == "evaluation":
        with_gradients = max(with_gradients, measurement.evaluation_batch)
    sizes = [prod(shape) for shape in program.shapes]
    left_out = passing_values(program) if passing else ()
    evaluated = sum(size for value, size in enumerate(sizes) if value not in left_out)
    return _FLOAT32 * (2 * with_gradients * sum(sizes) + measurement.evaluation_batch * evaluated)
