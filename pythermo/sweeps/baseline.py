"""What a point drawn uniformly from the sphere has: the limit of high learning rates."""

import numpy as np
import torch
import xarray as xr
from torch import nn

from pythermo._parameters import count, write_
from pythermo.config.schema import RunConfig
from pythermo.data import Images
from pythermo.estimators.entropy import default_ks, knn_graph_entropy
from pythermo.models.layers import trained_parameters
from pythermo.models.losses import LOSSES
from pythermo.ops._devices import require_device
from pythermo.training.batches import Draw, Stream
from pythermo.training.measure import evaluate
from pythermo.training.quantities import QUANTITIES
from pythermo.training.torch_settings import own_settings


def uniform_points(n: int, dim: int, random: np.random.Generator) -> torch.Tensor:
    """Return points [n, dim] uniform on the unit sphere of R^dim, float32."""
    points = torch.from_numpy(random.standard_normal((n, dim), dtype=np.float32))
    return points.div_(torch.linalg.vector_norm(points, dim=1, keepdim=True))


def uniform_entropy(
    n: int,
    dim: int,
    draws: int = 10,
    ks: tuple[int, ...] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return kNN-graph entropies [draws, len(ks)] in nats of n points uniform on the unit sphere of R^dim.

    The points are drawn in the host's memory and compared on the device.

    Source: arXiv 2505.23489.
    """
    chosen = default_ks(n) if ks is None else ks
    rows = []
    for draw in range(draws):
        points = uniform_points(n, dim, Draw(seed, Stream.BASELINE, draw).generator())
        rows.append(knn_graph_entropy(points.to(device), chosen).cpu())
    return torch.stack(rows)


def uniform_losses(
    config: RunConfig, model: nn.Module, images: Images, draws: int = 100, seed: int = 0
) -> np.ndarray:
    """Return the full training losses [draws] of trained weights uniform on the sphere, the head kept.

    The model's weights are the last ones drawn when this returns. Source: arXiv 2505.23489.
    """
    params = trained_parameters(model)
    loss, batch = LOSSES[config.training.loss], config.measurement.evaluation_batch
    losses = []
    for draw in range(draws):
        random = Draw(seed, Stream.BASELINE, draw, index=1).generator()
        point = config.training.radius * uniform_points(1, count(params), random)[0]
        write_(params, point.to(params[0].device))
        losses.append(evaluate(model, loss, images.train_images, images.train_labels, batch).loss)
    return np.array(losses)


@own_settings()
def uniform_baseline(config: RunConfig, model: nn.Module, images: Images) -> xr.Dataset:
    """Return mean and deviation of U and S over uniform draws, for the network and window of a run.

    Parameters
    ----------
    config : RunConfig
        The run.
    model, images : nn.Module, Images
        Its network, whose weights are overwritten, and its images.
    """
    window, device = config.measurement.window, require_device(config.training.device)
    model, dim = model.to(device), count(trained_parameters(model))
    losses = uniform_losses(config, model, images.to(device))
    entropies = uniform_entropy(window, dim, device=device).numpy() + (dim - 1) * np.log(
        config.training.radius
    )
    units = {name: {"units": QUANTITIES[name].unit} for name in ("loss", "entropy")}
    return xr.Dataset(
        {
            "uniform_loss": ((), losses.mean(), units["loss"]),
            "uniform_loss_std": ((), losses.std(), units["loss"]),
            "uniform_entropy": ("k", entropies.mean(axis=0), units["entropy"]),
            "uniform_entropy_std": ("k", entropies.std(axis=0), units["entropy"]),
        },
        coords={"k": list(default_ks(window))},
    )
