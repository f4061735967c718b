"""A training step of members side by side on a device, beside one run's and torch.func.vmap's."""

from dataclasses import replace

from pythermo.bench.device_clock import DeviceClock
from pythermo.bench.device_training import seconds_of_each
from pythermo.bench.ensemble import Case, program_of, stacked_trainer, vmap_step
from pythermo.config.schema import RunConfig
from pythermo.ops._devices import free_memory
from pythermo.sweeps.engine import bytes_of_run
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer

# Of the device's free memory, what members may take.
_SHARE = 0.8


def has_room(clock: DeviceClock, case: Case, members: int) -> bool:
    """Whether the device's memory has room for so many members."""
    of_one = bytes_of_run(case.configuration(), program_of(case), passing=False)
    return members * of_one <= _SHARE * free_memory(clock.device)


def ensemble_seconds(clock: DeviceClock, case: Case, members: int, steps: int) -> float:
    """Return the seconds of a step of all members, each with batches of its own."""
    trainer = stacked_trainer(_on(clock, case), case.images(), members)
    return seconds_of_each(clock, trainer.step, steps)


def run_seconds(clock: DeviceClock, case: Case, steps: int) -> float:
    """Return the seconds of a step of one run by torch, on a CUDA device captured."""
    config = _on(clock, case).changed(**{"training.cuda_graph": clock.device.type == "cuda"})
    with own_settings(threads=None):
        return seconds_of_each(clock, Trainer(config, case.images()).step, steps)


def vmap_seconds(clock: DeviceClock, case: Case, members: int, steps: int) -> float:
    """Return the seconds of a step of all members by torch.func.vmap; of ConvNets alone."""
    images = case.images()
    there = replace(
        images,
        train_images=images.train_images.to(clock.device),
        train_labels=images.train_labels.to(clock.device),
    )
    with own_settings(threads=None):
        return seconds_of_each(clock, vmap_step(case.configuration(), there, members), steps)


def _on(clock: DeviceClock, case: Case) -> RunConfig:
    return case.configuration().changed(**{"training.device": str(clock.device)})
