"""Stationary U, S, SNR and gradients of a sweep against the learning rate, with those of each member."""

import numpy as np
import plotly.graph_objects as go

from pythermo._checks import Floats
from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import shown_error, stationary_members, tail_of
from pythermo.config.preset import FIGURE_K
from pythermo.figures.style import BLUE, GREEN, LR_LABEL, ORANGE, PURPLE
from pythermo.reports.plots.style import GRAY, add_members, add_points, blank
from pythermo.training.quantities import QUANTITIES


def energy_plot(setup: Setup) -> go.Figure:
    """Draw stationary U with its errors, of all members, and that of uniform weights."""
    figure = blank(setup.title, LR_LABEL, QUANTITIES["loss"].label)
    _add_stationary(figure, setup, "energy", BLUE)
    if setup.baseline is not None:
        _add_baseline(figure, float(setup.baseline["uniform_loss"]))
    return figure


def entropy_plot(setup: Setup) -> go.Figure:
    """Draw stationary S in the same way."""
    figure = blank(setup.title, LR_LABEL, QUANTITIES["entropy"].label)
    _add_stationary(figure, setup, "entropy", ORANGE)
    if setup.baseline is not None:
        _add_baseline(figure, float(setup.baseline["uniform_entropy"].sel(k=FIGURE_K)))
    return figure


def snr_plot(setup: Setup) -> go.Figure:
    """Draw the stationary SNR with its errors over seeds."""
    figure = blank(setup.title, LR_LABEL, QUANTITIES["snr"].label, log_y=True)
    values = setup.stationary
    snr, error = values["snr"].values, values["snr_error"].values
    add_points(figure, values["lr"].values, snr, "SNR", GREEN, _around(snr, error))
    return figure


def gradients_plot(setup: Setup) -> go.Figure:
    """Draw the norms of the full gradient and of minibatches' when stationary, means over seeds."""
    figure = blank(setup.title, LR_LABEL, "gradient norm (loss units per weight unit)", log_y=True)
    tail = tail_of(setup.dataset, setup.last, FIGURE_K)
    means = tail.mean(("iteration", "seed"), skipna=False)
    signal = means["squared_full_grad_norm"].values
    full = np.sqrt(np.where(signal > 0.0, signal, np.nan))
    for name, values, color, symbol in (
        ("full gradient |G|", full, BLUE, "circle"),
        ("minibatches, mean |g|", means["mean_grad_norm"].values, ORANGE, "square"),
        ("noise, root mean square", means["rms_noise_norm"].values, PURPLE, "diamond"),
    ):
        add_points(figure, means["lr"].values, values, name, color, symbol=symbol)
    return figure


def member_notes(setup: Setup) -> tuple[Floats, Floats, Floats, list[str]]:
    """Return lr, U and S [n] of the members that are known, and a line on each."""
    members = stationary_members(setup.dataset, setup.last)
    lr, seed = np.meshgrid(members["lr"].values, members["seed"].values, indexing="ij")
    energy, entropy = members["energy"].values, members["entropy"].values
    known = np.isfinite(energy) & np.isfinite(entropy)
    rows = zip(*(one[known] for one in (lr, seed, energy, entropy)), strict=True)
    notes = [f"η = {rate:.4g}, seed {one}: U = {u:.5g}, S = {s:.1f} nats" for rate, one, u, s in rows]
    return lr[known], energy[known], entropy[known], notes


def mean_notes(setup: Setup) -> list[str]:
    """Return a line on each learning rate, in the order of its stationary values."""
    values = setup.stationary
    errors = {name: shown_error(values, name) for name in ("energy", "entropy")}
    return [
        f"η = {float(one['lr']):.4g}, {one['regime'].item()}: "
        f"U = {float(one['energy']):.5g} ± {errors['energy'][index]:.2g}, "
        f"S = {float(one['entropy']):.1f} ± {errors['entropy'][index]:.1f} nats"
        for index, one in enumerate(values.isel(lr=i) for i in range(values.sizes["lr"]))
    ]


def _add_stationary(figure: go.Figure, setup: Setup, name: str, color: str) -> None:
    lr, energy, entropy, notes = member_notes(setup)
    add_members(figure, lr, energy if name == "energy" else entropy, notes)
    values = setup.stationary
    mean, error = values[name].values, shown_error(values, name)
    add_points(
        figure,
        values["lr"].values,
        mean,
        "mean ± error",
        color,
        _around(mean, error),
        notes=mean_notes(setup),
    )


def _around(value: Floats, error: Floats) -> Floats:
    return np.stack([value - error, value + error], axis=1)


def _add_baseline(figure: go.Figure, value: float) -> None:
    figure.add_hline(
        y=value, line={"color": GRAY, "dash": "dash", "width": 1}, annotation_text="uniform weights"
    )
