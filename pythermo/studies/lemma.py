"""Lemma 1 in a network: how the gradients' signal-to-noise ratio falls on the way to an optimum.

At a distance d from an optimum the SNR falls as d where the network cannot fit its data (UP), for the
gradients of minibatches do not vanish there; where it can (OP) all of them do, and the SNR stays.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from pythermo import data, figures, models
from pythermo._parameters import flatten, write_
from pythermo.estimators.gradient_noise import gradient_noise
from pythermo.estimators.temperature import PowerLaw, fit_power_law
from pythermo.models.layers import NormReLU, batch_norm, initialize_, trained_parameters
from pythermo.models.losses import squared_error
from pythermo.optim import ProjectedSGD, project_
from pythermo.reports.sections import Fact, Plot, Report, Section, Table
from pythermo.studies.report import write_report
from pythermo.sweeps import files
from pythermo.training.batches import Draw, Stream
from pythermo.training.quantities import QUANTITIES
from pythermo.training.torch_settings import own_settings

DISTANCES = np.geomspace(1e-6, 1.0, 25)
# Nearer, what is left of the full gradient at a found optimum counts; farther, higher orders do.
LINEAR = slice(1e-3, 2e-2)
_EXPECTED = {"up": 1, "op": 0}
_HEAD_NORM = 1.5  # of squared errors
_LR = 3e-3


@dataclass(frozen=True)
class LemmaSettings:
    """A ConvNet, its images, and how its optimum is sought.

    ``epochs`` of SGD and then ``rounds`` of 100 iterations of L-BFGS, on minibatches that stay the same.
    ``pooling`` "mean" makes the loss smooth: at a kink, where max pooling may put a minimum, the gradient
    does not vanish, and Hessians are what the lemma is about. With "max" more data are fitted exactly, and
    there all gradients vanish.
    """

    width: int
    samples_per_class: int
    label_noise: float
    batch_size: int
    pooling: Literal["mean", "max"]
    epochs: int = 300
    rounds: int = 20


SETUPS = {
    "up": LemmaSettings(width=2, samples_per_class=40, label_noise=0.2, batch_size=50, pooling="mean"),
    "op": LemmaSettings(8, samples_per_class=20, label_noise=0.0, batch_size=25, pooling="max", rounds=5),
}


@own_settings()
def snr_by_distance(
    settings: LemmaSettings, distances: NDArray[np.float64] = DISTANCES, directions: int = 3, seed: int = 0
) -> xr.Dataset:
    """Find an optimum of a network on the digits, and the SNR at distances from it along random directions.

    Parameters
    ----------
    settings : LemmaSettings
        The network has SiLU in the place of ReLU; it works in float64, with squared errors.
    distances : array [n]
        Along tangents of the unit sphere at the optimum, from which the point is projected to the sphere.
    directions : int
        Number of random tangents.
    seed : int
        Of the minibatches and the tangents.

    Returns
    -------
    xarray.Dataset
        ``snr`` [direction, distance], exact for these minibatches, and at the optimum: ``loss``,
        ``full_grad_norm`` and ``rms_grad_norm``.

    Notes
    -----
    Source: arXiv 2505.23489, Lemma 1.
    """
    family = _Minibatches(settings, seed)
    family.seek_optimum()
    optimum, gradients = family.weights(), family.gradients()
    random = Draw(seed, Stream.MEASUREMENT).generator()
    snr = np.empty((directions, len(distances)))
    for row in range(directions):
        tangent = torch.from_numpy(random.standard_normal(len(optimum)))
        tangent -= (tangent @ optimum) * optimum
        tangent /= tangent.norm()
        for column, distance in enumerate(distances):
            point = optimum + float(distance) * tangent
            write_(family.params, point / point.norm())
            at_point = family.gradients()
            snr[row, column] = gradient_noise(at_point.mean(dim=0), at_point).snr
    write_(family.params, optimum)
    norm = {"units": QUANTITIES["full_grad_norm"].unit}
    return xr.Dataset(
        {
            "snr": (("direction", "distance"), snr, {"long_name": "signal-to-noise ratio of the gradient"}),
            "loss": ((), family.loss(), {"units": QUANTITIES["loss"].unit}),
            "full_grad_norm": ((), float(gradients.mean(dim=0).norm()), norm),
            "rms_grad_norm": ((), float(gradients.square().sum(dim=1).mean().sqrt()), norm),
        },
        coords={"distance": ("distance", distances, {"long_name": "distance from the optimum"})},
        attrs={"weights": len(optimum), "width": settings.width},
    )


def slope(found: xr.Dataset) -> PowerLaw:
    """Return the power law of the SNR, its geometric mean over directions, in the range `LINEAR`."""
    within = found["snr"].sel(distance=LINEAR)
    logarithm: xr.DataArray = np.log(within)  # type: ignore[assignment]
    return fit_power_law(within["distance"].values, np.exp(logarithm.mean("direction").values))


def reproduce_lemma(out: str | Path) -> list[Path]:
    """Measure both setups and write their data and a figure; finished ones are not computed again.

    Returns
    -------
    list of Path
        ``up.nc``, ``op.nc``, ``lemma`` as PNG and PDF, ``summary.md`` and ``report.html``.
    """
    folder = files.writable_folder("out", out)
    found = {}
    for name, settings in SETUPS.items():
        path = folder / f"{name}.nc"
        if not path.exists():
            files.write_dataset(path, snr_by_distance(settings))
        found[name] = files.read_dataset(path, "remove it, and it is computed anew")
    laws = {name: slope(one) for name, one in found.items()}
    drawn = figures.save(figures.snr_near_an_optimum(found, laws, LINEAR), folder / "lemma")
    reports = write_report(folder, lemma_report(found, laws))
    return [*(folder / f"{name}.nc" for name in found), *drawn, *reports]


def lemma_report(found: Mapping[str, xr.Dataset], laws: Mapping[str, PowerLaw]) -> Report:
    """Return the exponents of the SNR beside those of Lemma 1, and what is left at the optima."""
    from pythermo.reports.plots.studies import snr_by_distance_plot

    facts = [
        Fact(
            f"{name.upper()}, D = {found[name].attrs['weights']}: exponent of the SNR",
            f"{law.exponent:.3f} ± {law.exponent_stderr:.3f}",
            f"{_EXPECTED[name]} by Lemma 1; ± by the scatter of its points",
        )
        for name, law in laws.items()
    ]
    left = {name: float(one["full_grad_norm"] / one["rms_grad_norm"]) for name, one in found.items()}
    rows = [
        [name.upper(), str(one.attrs["weights"]), f"{float(one['loss']):.3g}", f"{left[name]:.2g}"]
        for name, one in found.items()
    ]
    table = Table(["setup", "D", "loss at the optimum", "|G| there over that of minibatches"], rows)
    plot = Plot("Means over directions.", partial(snr_by_distance_plot, found, laws))
    words = (
        f"Exponents are those between distances of {LINEAR.start:g} and {LINEAR.stop:g}: nearer, what is "
        "left of the full gradient counts; farther, higher orders do."
    )
    return Report(
        "Lemma 1: the SNR near an optimum",
        [Section("What was found", [words], table, facts), Section("The plot", plots=[plot])],
    )


class _Minibatches:
    """A network and the losses of some minibatches, each normalized by its own statistics."""

    def __init__(self, settings: LemmaSettings, seed: int) -> None:
        self.settings = settings
        images = data.load(
            "digits", samples_per_class=settings.samples_per_class, label_noise=settings.label_noise
        )
        x, y = images.train_images.double(), images.train_labels
        order = torch.from_numpy(Draw(seed, Stream.TRAINING).generator().permutation(len(y)))
        whole = [part for part in order.split(settings.batch_size) if len(part) == settings.batch_size]
        self._batches = [(x[part], y[part]) for part in whole]
        network = models.ConvNet(settings.width, images.channels, images.num_classes, _HEAD_NORM)
        _make_smooth(network, nn.AvgPool2d if settings.pooling == "mean" else nn.MaxPool2d)
        self._model = initialize_(network).double()
        self.params = trained_parameters(self._model)

    def seek_optimum(self) -> None:
        """Go down to an optimum on the unit sphere."""
        optimizer = ProjectedSGD(self.params, lr=_LR)
        for _ in range(self.settings.epochs):
            for loss in self._losses():
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for _ in range(self.settings.rounds):
            self._polish()
            project_(self.params, 1.0)  # the loss stays: it is scale-invariant

    def weights(self) -> Tensor:
        """Return a copy of the weights [D]."""
        return flatten(self.params)

    @torch.no_grad()
    def loss(self) -> float:
        """Return the mean loss."""
        return float(torch.stack(list(self._losses())).mean())

    def gradients(self) -> Tensor:
        """Return the gradients [batches, D] at the current weights."""
        rows = [torch.autograd.grad(loss, self.params) for loss in self._losses()]
        return torch.stack([flatten(row) for row in rows])

    def _losses(self) -> Iterator[Tensor]:
        for x, y in self._batches:
            yield squared_error(self._model(x), y)

    def _polish(self) -> None:
        lbfgs = torch.optim.LBFGS(
            self.params,
            max_iter=100,
            history_size=50,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-14,
            tolerance_change=0.0,
        )

        def mean_loss() -> Tensor:
            lbfgs.zero_grad()
            total = torch.stack(list(self._losses())).mean()
            total.backward()
            return total.detach()

        lbfgs.step(mean_loss)


def _make_smooth(model: models.ConvNet, pooling: type[nn.Module]) -> None:
    """Put SiLU in the place of ReLU, and another pooling before it."""
    layers = model.features
    for index, layer in enumerate(layers):
        if isinstance(layer, NormReLU):
            layers[index] = nn.Sequential(batch_norm(layer.channels), pooling(layer.pool), nn.SiLU())
