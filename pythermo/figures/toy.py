"""Figures of the three-dimensional toy."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pythermo.estimators.temperature import TemperatureFit
from pythermo.figures.style import BLUE, GRAY, GREEN, LR_LABEL, ORANGE, own_style, require_some, shades
from pythermo.sphere.systems import Quadratics

Floats = NDArray[np.float64]

_QUANTITIES = {
    "excess_loss": "L - min L",
    "snr": "SNR",
    "full_grad_norm": "full gradient norm",
    "mean_grad_norm": "mean stochastic\ngradient norm",
}
_LINES = ("#FFFFFF", "#FF9E4A")


@dataclass(frozen=True)
class _View:
    """Orthographic projection: what lies on the near half of the sphere is seen."""

    right: Floats
    up: Floats
    toward: Floats

    @classmethod
    def of(cls, azimuth: float, elevation: float) -> "_View":
        """Return the view from a direction given in degrees."""
        a, e = np.radians([azimuth, elevation])
        toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0.0])
        return cls(right, np.cross(toward, right), toward)

    def draw(self, axes: Axes, points: Floats, **style: object) -> None:
        """Draw the visible parts of a curve [n, 3] on the sphere."""
        seen = (points @ self.toward > 0.0)[:, None]
        shown = np.where(seen, points, np.nan)
        axes.plot(shown @ self.right, shown @ self.up, **style)  # type: ignore[arg-type]


def toy_spheres(systems: Mapping[str, Quadratics], paths: Mapping[str, xr.Dataset]) -> Figure:
    """Draw the spheres colored by the loss, great circles and trajectories (figure 4 of the paper).

    Parameters
    ----------
    systems : mapping of str to Quadratics
        In three dimensions, by title.
    paths : mapping of str to Dataset
        By the same titles: ``weights`` with the dimensions lr, replica, step, dim.

    Returns
    -------
    Figure
        Thin lines are the great circles where a sample's loss is 0; what lies behind is not seen.
    """
    require_some("systems", systems)
    with own_style({"axes.grid": False}):
        figure = Figure(figsize=(5.6 * len(systems) + 0.8, 5.4), layout="constrained")
        row = figure.subplots(1, len(systems), squeeze=False)[0]
        view, colors = _View.of(azimuth=118.0, elevation=38.0), Normalize(0.0, 1.0)
        for axes, (title, system) in zip(row, systems.items(), strict=True):
            _draw_sphere(axes, system, view, colors)
            for vector in system.vectors:
                view.draw(axes, _great_circle(vector), color="black", lw=0.9, alpha=0.7)
            runs = paths[title]
            # The run at the largest learning rate wanders most: the others are drawn over it.
            order = np.argsort(-runs["lr"].values)
            for color, i in zip(_LINES, order, strict=False):
                one = runs.isel(lr=int(i), replica=0)
                label = f"η = {float(one['lr']):.2g}"
                view.draw(axes, one["weights"].values, color=color, lw=0.9, label=label)
            start = runs["weights"].isel(lr=0, replica=0, step=0).values
            view.draw(axes, start[None], color="black", marker="o", ms=6, mfc="white", ls="", label="start")
            axes.set_title(title)
            legend = axes.legend(loc="lower left", fontsize=9, frameon=True, facecolor="#555555")
            for text in legend.get_texts():
                text.set_color("white")
        scale = mpl.cm.ScalarMappable(colors, "viridis")
        figure.colorbar(scale, ax=row, label="loss L", shrink=0.75)
        return figure


def _draw_sphere(axes: Axes, system: Quadratics, view: _View, colors: Normalize, pixels: int = 900) -> None:
    """Draw the near half of the sphere, colored by the loss and shaded from above."""
    side = np.linspace(-1.0, 1.0, pixels)
    x, y = np.meshgrid(side, side)
    depth = np.sqrt(np.clip(1.0 - x**2 - y**2, 0.0, None))
    inside = x**2 + y**2 <= 1.0
    points = x[..., None] * view.right + y[..., None] * view.up + depth[..., None] * view.toward
    image = mpl.colormaps["viridis"](colors(system.loss(points)))
    light = np.clip(-0.35 * x + 0.45 * y + 0.82 * depth, 0.0, None)
    image[..., :3] *= (0.5 + 0.5 * light)[..., None]
    image[..., 3] = inside
    axes.imshow(image, extent=(-1.0, 1.0, -1.0, 1.0), origin="lower", interpolation="bilinear")
    axes.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), aspect="equal")
    axes.axis("off")


def _great_circle(vector: Floats, points: int = 721) -> Floats:
    """Return points [n, 3] of the great circle that is orthogonal to a vector."""
    first, second = np.linalg.svd(vector[None, :])[2][1:]
    angle = np.linspace(0.0, 2.0 * np.pi, points)[:, None]
    circle: Floats = np.cos(angle) * first + np.sin(angle) * second
    return circle


def toy_runs(runs: Mapping[str, xr.Dataset], count: int = 7) -> Figure:
    """Draw loss, SNR and gradient norms against the step for some learning rates (figure 5 of the paper).

    Parameters
    ----------
    runs : mapping of str to Dataset
        The paper's runs by title; one row each.
    count : int
        Learning rates, log-spaced over those of the runs up to 2.5.

    Returns
    -------
    Figure
        Means over some neighboring measurements; values of 0, and below 1e-34, are not shown.
    """
    require_some("runs", runs)
    with own_style():
        figure = Figure(figsize=(14.0, 3.1 * len(runs)), layout="constrained")
        rows = figure.subplots(len(runs), len(_QUANTITIES), squeeze=False)
        for (title, dataset), row in zip(runs.items(), rows, strict=True):
            lrs = dataset["lr"].values
            wanted = np.geomspace(lrs[0], 2.5, count)
            chosen = [int(np.abs(np.log(lrs / lr)).argmin()) for lr in wanted]
            colors = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, count))
            for axes, (name, label) in zip(row, _QUANTITIES.items(), strict=True):
                for i, color in zip(chosen, colors, strict=True):
                    one = dataset[name].isel(lr=i, replica=0)
                    smooth = one.rolling(step=9, center=True, min_periods=1).mean()
                    shown = smooth.where(smooth > 1e-34)
                    axes.plot(one["step"], shown, color=color, lw=1.1, label=f"{lrs[i]:.2g}")
                axes.set(xscale="log", yscale="log", xlabel="step", ylabel=label)
            row[0].set_title(title, fontsize=10)
        rows[0][-1].legend(fontsize=8, title=LR_LABEL, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def toy_thermodynamics(
    states: xr.Dataset, fit: TemperatureFit, threshold: xr.Dataset, snr: Mapping[str, xr.Dataset]
) -> Figure:
    """Draw U, S and T of the underparameterized toy, OP's threshold, and the slopes of Lemma 1.

    Parameters
    ----------
    states : Dataset
        ``energy`` and ``entropy`` by lr.
    fit : TemperatureFit
        Of these.
    threshold : Dataset
        Final ``loss`` of many chains at learning rates around 1.
    snr : mapping of str to Dataset
        ``snr`` by distance and direction, by title.

    Returns
    -------
    Figure
    """
    with own_style():
        figure = Figure(figsize=(13.0, 6.6), layout="constrained")
        above, below = figure.subplots(2, 3)
        above[0].plot(states["lr"], states["energy"], "o-", color=BLUE, lw=1.0)
        above[0].set(ylabel="loss U", title="UP: stationary loss")
        above[1].plot(states["lr"], states["entropy"], "o-", color=ORANGE, lw=1.0)
        above[1].set(ylabel="entropy S (nats)", title="UP: entropy")
        above[2].fill_between(fit.lr, fit.lower, fit.upper, color=GREEN, alpha=0.2, label="interval")
        above[2].plot(fit.lr, fit.temperature, "o", color=GREEN, label="T")
        law = fit.prefactor * fit.lr**fit.exponent
        text = f"{fit.prefactor:.2g} · η^{fit.exponent:.2f}"
        above[2].plot(fit.lr, law, "--", color=GRAY, lw=1.0, label=text)
        above[2].set(ylabel="temperature T", title="UP: temperature", yscale="log")
        above[2].legend(fontsize=8)
        for axes in above:
            axes.set(xscale="log", xlabel=LR_LABEL)
        below[0].plot(states["entropy"], states["energy"], "o-", color=BLUE, lw=1.0)
        below[0].set(xlabel="entropy S (nats)", ylabel="loss U", title="UP: U(S), whose slope is T")
        _draw_threshold(below[1], threshold)
        _draw_lemma(below[2], snr)
        return figure


def toy_meridians(found: xr.Dataset) -> Figure:
    """Draw the SNR of the overparameterized toy along meridians beside Theorem 1's closed form.

    Parameters
    ----------
    found : Dataset
        ``snr`` and ``snr_theory`` by ``s`` and ``t``, as `pythermo.studies.theorem` measures them.

    Returns
    -------
    Figure
        Points are measured, lines are the closed form, a color for each meridian; dashed the least SNR at the
        pole.
    """
    with own_style():
        figure = Figure(figsize=(9.5, 3.8), layout="constrained")
        near, whole = figure.subplots(1, 2)
        for axes, shown in ((near, found.sel(t=slice(0.0, 0.1))), (whole, found)):
            for s, color in zip(found["s"].values, shades(found.sizes["s"]), strict=True):
                one = shown.sel(s=s)
                axes.plot(one["t"], one["snr_theory"], color=color, lw=1.0)
                axes.plot(one["t"], one["snr"], "o", color=color, ms=2.5, label=f"{s:.2f}")
            axes.axhline(found.attrs["least"], color=GRAY, ls="--", lw=1.0)
        near.set(xscale="log", xlabel="$t = 1 - w_z^2$", ylabel="SNR", title="near the pole")
        whole.set(xlabel="$t = 1 - w_z^2$", title="to the equator", yscale="log")
        handles, labels = whole.get_legend_handles_labels()
        whole.legend(
            handles, labels, fontsize=8, title="$w_x^2 / t$", loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        return figure


def _draw_threshold(axes: Axes, threshold: xr.Dataset) -> None:
    """Draw the final losses of all chains; those of 0 at the bottom of the axis."""
    loss = np.maximum(threshold["loss"].isel(step=-1).values, 1e-40)
    lrs = np.broadcast_to(threshold["lr"].values[:, None], loss.shape)
    axes.plot(lrs.ravel(), loss.ravel(), ".", color=BLUE, ms=3, alpha=0.5)
    axes.axvline(1.0, color=GRAY, ls="--", lw=1.0, label="η = 1")
    steps = int(threshold["step"][-1])
    axes.set(yscale="log", xlabel=LR_LABEL, ylabel="final loss (0 shown as 1e-40)")
    axes.set_title(f"OP: {loss.shape[1]} chains after {steps} steps")
    axes.legend(fontsize=8)


def _draw_lemma(axes: Axes, snr: Mapping[str, xr.Dataset]) -> None:
    """Draw the mean SNR over the directions and its range, with the slopes that Lemma 1 tells."""
    for (title, dataset), color, slope in zip(snr.items(), (BLUE, ORANGE), (1, 0), strict=True):
        distance, mean = dataset["distance"].values, dataset["snr"].mean("direction").values
        low, high = dataset["snr"].min("direction"), dataset["snr"].max("direction")
        axes.fill_between(distance, low, high, color=color, alpha=0.2)
        axes.plot(distance, mean, "o", color=color, ms=3, label=title)
        axes.plot(distance, mean[0] * (distance / distance[0]) ** slope, color=color, lw=1.0)
    axes.set(xscale="log", yscale="log", xlabel="distance from the minimum", ylabel="SNR")
    axes.set_title("Lemma 1: slopes 1 and 0 (lines)")
    axes.legend(fontsize=8)
