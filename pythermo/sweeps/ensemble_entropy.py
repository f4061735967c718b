"""The entropy of a sweep's seeds: of where they are at one iteration, not of where one of them has been."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from pythermo._checks import Floats
from pythermo.config.member import Member
from pythermo.estimators.entropy import knn_graph_entropy
from pythermo.sweeps import files
from pythermo.sweeps.snapshots import MEASUREMENTS, snapshots


def with_ensemble_entropy(sweep: xr.Dataset, folder: Path, members: Sequence[Member]) -> xr.Dataset:
    """Add the entropies of the seeds of each learning rate to a sweep, where their weights were kept.

    Returns
    -------
    xarray.Dataset
        With ``ensemble_entropy`` [..., snapshot, ensemble_k] (nats) for the sweep's axes but for the seed,
        for all numbers of neighbors below that of seeds; NaN where runs of a learning rate lack. As it was
        for a single seed, or where no weights were kept.

    Notes
    -----
    The estimator is that of the windows, `pythermo.knn_graph_entropy`. Its points are independent, but few,
    and its constant is another than a window's: compare learning rates, not the two. Members have one
    initial point; before they have forgotten it, this is the entropy of how far they have spread.
    """
    kept = {member: snapshots(folder / member.folder) for member in members}
    iterations = sorted(set.intersection(*(set(one) for one in kept.values())))
    names, seeds = sweep.attrs.get("trained_parameters", "").split(), sweep.sizes["seed"]
    if not iterations or not names or seeds < 2:
        return sweep
    axes = [axis for axis in members[0].coordinates if axis != "seed"]
    ks = list(range(1, seeds))
    shape = (*(sweep.sizes[axis] for axis in axes), len(iterations), len(ks))
    entropy = xr.DataArray(
        np.full(shape, np.nan),
        dims=(*axes, "snapshot", "ensemble_k"),
        coords={axis: sweep[axis] for axis in axes} | {"snapshot": iterations, "ensemble_k": ks},
        attrs={"long_name": "entropy of the seeds", "units": "nats"},
    )
    groups: dict[tuple[float, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(tuple(member.coordinates[axis] for axis in axes), []).append(member)
    for place, group in groups.items():
        if len(group) == seeds:
            for iteration in iterations:
                points = torch.stack([_weights(kept[member][iteration], names) for member in group])
                entropy.loc[dict(zip(axes, place, strict=True)) | {"snapshot": iteration}] = _entropies(
                    points, ks
                )
    return sweep.assign(ensemble_entropy=entropy)


def _weights(path: Path, names: Sequence[str]) -> torch.Tensor:
    with files.reading(path, f"remove it and {MEASUREMENTS}, and the run's call computes it anew"):
        state = files.read_state(path)
        return torch.cat([state[name].flatten() for name in names])


def _entropies(points: torch.Tensor, ks: Sequence[int]) -> Floats:
    entropies: Floats = knn_graph_entropy(points, ks).numpy()
    return entropies
