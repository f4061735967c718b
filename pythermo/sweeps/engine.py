"""What computes a run: torch, or lanes in which runs lie side by side; settled when a folder is made.

``training.engine = "auto"`` is settled by a fixed table, never by timing, for other engines give other bits:

* a single run: torch;
* a sweep of fewer than 8 runs, or on a CUDA device: torch;
* a larger one on the CPU: lanes, if its network has only layers that lanes have, at most 32 channels (64 on
  images of at most 16 x 16 pixels), and takes at most 2 GiB for 16 runs.

Beyond, torch is as fast where a vector has 8 lanes: ``python -m pythermo.bench ensemble``.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path

from pythermo import data
from pythermo.config.schema import RunConfig
from pythermo.ops.lanes_convolution import lanes_of_members
from pythermo.sweeps import files
from pythermo.sweeps.cost import window_bytes
from pythermo.training.lane_trainer import LaneTrainer
from pythermo.training.lanes import passing_values
from pythermo.training.network import build_network
from pythermo.training.program import LayerNotKnownError, Program, read_program
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

_FEWEST_RUNS = 8
_WIDEST, _WIDEST_OF_SMALL, _SMALL_PIXELS = 32, 64, 16 * 16
_MOST_BYTES = 2**31
_FLOAT32 = 4

# Memory that the windows of runs side by side may take in one process.
WINDOWS_BYTES = 2**32


def settled(config: RunConfig, folder: Path | None, runs: int) -> RunConfig:
    """Return a configuration with the engine of its folder or, if there is none yet, of the table.

    Raises
    ------
    LayerNotKnownError
        Before a folder is made, for ``engine = "lanes"`` and a network with other layers, by their name.
    """
    there = folder is not None and (folder / files.CONFIG).exists()
    engine = config.training.engine
    if engine == "auto" and there and folder is not None:
        engine = files.read_config(folder).training.engine
    if engine == "auto":
        engine = "lanes" if _lanes_by_table(config, runs) else "torch"
    elif engine == "lanes" and not there:
        _program(config.to_toml())
    return config.changed(**{"training.engine": engine})


def runs_side_by_side(config: RunConfig) -> int:
    """Return how many runs of a settled configuration a process computes at a time."""
    if config.training.engine != "lanes":
        return 1
    window = window_bytes(config.measurement, _program(config.to_toml()).dim)
    return max(1, min(lanes_of_members(), WINDOWS_BYTES // window))


def trainer_of(configs: Sequence[RunConfig]) -> Trainer | LaneTrainer:
    """Return what trains runs of a settled configuration: several of them in lanes, torch's one by one."""
    if configs[0].training.engine == "lanes":
        return LaneTrainer(configs)
    (config,) = configs
    return Trainer(config)


def _lanes_by_table(config: RunConfig, runs: int) -> bool:
    if runs < _FEWEST_RUNS or config.training.device != "cpu":
        return False
    try:
        program = _program(config.to_toml())
    except LayerNotKnownError:
        return False
    _, height, width = program.shapes[0]
    most = _WIDEST_OF_SMALL if height * width <= _SMALL_PIXELS else _WIDEST
    widest = max(channels for channels, _, _ in program.shapes)
    return widest <= most and _bytes_of_16(config, program) <= _MOST_BYTES


def _bytes_of_16(config: RunConfig, program: Program) -> int:
    """Return the memory of 16 runs for values and gradients of a batch, and for values of an evaluation."""
    measurement = config.measurement
    with_gradients = config.training.batch_size
    if measurement.full_gradient == "evaluation":
        with_gradients = max(with_gradients, measurement.evaluation_batch)
    sizes = [prod(shape) for shape in program.shapes]
    passing = passing_values(program)
    evaluated = sum(size for value, size in enumerate(sizes) if value not in passing)
    return 16 * _FLOAT32 * (2 * with_gradients * sum(sizes) + measurement.evaluation_batch * evaluated)


@lru_cache(maxsize=1)
def _program(text: str) -> Program:
    """Return the layers of a configuration's network."""
    config = RunConfig.from_toml(text)
    with own_settings():
        images = data.load(**config.data.model_dump())
        _, channels, height, width = images.train_images.shape
        return read_program(build_network(config, images), (channels, height, width))
