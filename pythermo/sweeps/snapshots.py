"""The weights that a run keeps along its way, and the network that has them."""

from pathlib import Path

import torch
from torch import nn

from pythermo import data
from pythermo._checks import require_integer
from pythermo.sweeps import files
from pythermo.training.network import build_network
from pythermo.training.torch_settings import own_settings

MEASUREMENTS = "measurements.nc"
_PREFIX, _SUFFIX = "weights-", ".pt"


def keep_snapshot(folder: Path, iteration: int, model: nn.Module) -> None:
    """Write the network's state at an iteration, unless it is there already."""
    path = folder / f"{_PREFIX}{iteration}{_SUFFIX}"
    if not path.exists():
        state = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(model).items()}
        files.write_state(path, state)


def snapshots(folder: Path) -> dict[int, Path]:
    """Return the files of the weights that a run has kept, by iteration."""
    named = {path.stem.removeprefix(_PREFIX): path for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")}
    found = {int(name): path for name, path in named.items() if name.isdecimal()}
    return dict(sorted(found.items()))


@own_settings(threads=None)
def load_network(folder: str | Path, iteration: int | None = None) -> nn.Module:
    """Return the network of a run as it was at an iteration, on the CPU and in training mode.

    Parameters
    ----------
    folder : path
        Folder of the run: what `run` was given as ``out``, or ``lr_...`` in the folder of a sweep.
    iteration : int, optional
        One of those whose weights were kept (``measurement.snapshots`` of the configuration); the last of
        them if not given. Each is a file ``weights-ITERATION.pt`` that `torch.load` reads: parameters and
        buffers by name.

    Raises
    ------
    FileNotFoundError
        If no weights were kept there, or its images are not at hand.
    ValueError
        For an iteration whose weights were not kept, naming those that were, and for a network of the
        user's own that has changed since.
    """
    folder = files.as_path("folder", folder)
    kept = snapshots(folder)
    if not kept:
        raise FileNotFoundError(
            f"folder: {folder} holds no weights; it must be that of a run with measurement.snapshots above 0"
        )
    iteration = max(kept) if iteration is None else require_integer("iteration", iteration, 0)
    if iteration not in kept:
        raise ValueError(f"iteration: the weights of {iteration} were not kept, only those of {sorted(kept)}")
    config = files.read_config(folder)
    model = build_network(config, data.load(**config.data.model_dump()))
    tensors = _tensors(model)
    with files.reading(kept[iteration], f"remove it and {MEASUREMENTS}, and the run's call computes it anew"):
        state = files.read_state(kept[iteration])
        shapes, expected = ({name: value.shape for name, value in one.items()} for one in (state, tensors))
    if shapes != expected:
        raise ValueError(
            f"folder: {config.model.title} is not the network whose weights {kept[iteration]} has"
        )
    with torch.no_grad():
        for name, value in tensors.items():
            value.copy_(state[name])
    return model


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
