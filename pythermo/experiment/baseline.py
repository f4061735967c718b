"""What a point drawn uniformly from the sphere has: the limit of high learning rates."""

import numpy as np
import torch
import xarray as xr

from pythermo.entropy import default_ks, knn_graph_entropy
from pythermo.experiment.config import RunConfig
from pythermo.experiment.draws import Stream, generator
from pythermo.experiment.images import load_data
from pythermo.experiment.measure import evaluate
from pythermo.experiment.network import build_model, set_weights_, weights_of
from pythermo.models.layers import trained_parameters
from pythermo.models.losses import LOSSES
from pythermo.ops._devices import require_device


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
        points = uniform_points(n, dim, generator(seed, Stream.BASELINE, draw))
        rows.append(knn_graph_entropy(points.to(device), chosen).cpu())
    return torch.stack(rows)


def uniform_loss(config: RunConfig, draws: int = 100, seed: int = 0) -> np.ndarray:
    """Return the full training losses [draws] of trained weights uniform on the sphere, the head kept.

    Source: arXiv 2505.23489.
    """
    device = require_device(config.training.device)
    images = load_data(config).to(device)
    model = build_model(config.model, config.training, images).to(device)
    params, dim = trained_parameters(model), weights_of(model)
    loss, batch = LOSSES[config.training.loss], config.measurement.evaluation_batch
    losses = []
    for draw in range(draws):
        random = generator(seed, Stream.BASELINE, draw, index=1)
        set_weights_(params, config.training.radius * uniform_points(1, dim, random)[0].to(device))
        losses.append(evaluate(model, loss, images.train_images, images.train_labels, batch).loss)
    return np.array(losses)


def uniform_baseline(config: RunConfig) -> xr.Dataset:
    """Return mean and deviation of U and S over uniform draws, for the network and window of a run."""
    window = config.measurement.window
    dim = weights_of(build_model(config.model, config.training, load_data(config)))
    losses = uniform_loss(config)
    entropies = uniform_entropy(window, dim, device=config.training.device).numpy() + (dim - 1) * np.log(
        config.training.radius
    )
    return xr.Dataset(
        {
            "uniform_loss": ((), losses.mean(), {"units": "loss units"}),
            "uniform_loss_std": ((), losses.std(), {"units": "loss units"}),
            "uniform_entropy": ("k", entropies.mean(axis=0), {"units": "nats"}),
            "uniform_entropy_std": ("k", entropies.std(axis=0), {"units": "nats"}),
        },
        coords={"k": list(default_ks(window))},
    )
