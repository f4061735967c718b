"""Do runs in lanes and by torch measure the same? The digits, means over seeds with standard errors.

    python bench/engines.py FOLDER

writes both sweeps, a table and a figure. Single runs differ, as rounding grows in chaos; means may not.
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import pythermo as pt
from pythermo.figures.style import distinct, own_style, save

RATES, SEEDS, K = [3e-3, 1e-2, 3e-2, 6e-2, 1e-1], 16, 50


def main(out: Path) -> None:
    config = pt.Preset.load("digits-quick").run
    sweeps = {
        engine: pt.sweep(config.changed(**{"training.engine": engine}), RATES, out / engine, seeds=SEEDS)
        for engine in ("lanes", "torch")
    }
    last = config.measurement.stationary
    stationary = {
        name: one[["loss", "entropy"]].sel(k=K).isel(iteration=slice(-last, None)).mean("iteration")
        for name, one in sweeps.items()
    }
    table = _table(stationary)
    print(table)
    title = "# Lanes and torch: U and S at five learning rates"
    (out / "engines.md").write_text(f"{title}\n\n{table}\n", encoding="utf-8")
    with own_style():
        save(_figure(stationary), out / "engines")


def _mean_and_error(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean("seed").values, (values.std("seed", ddof=1) / np.sqrt(values.sizes["seed"])).values


def _table(stationary: dict[str, xr.Dataset]) -> str:
    lines = ["| lr | quantity | lanes | torch | apart, in standard errors |", "|---|---|---|---|---|"]
    for name, digits in (("loss", 4), ("entropy", 1)):
        (lanes, lanes_error), (torch, torch_error) = (
            _mean_and_error(one[name]) for one in stationary.values()
        )
        apart = (lanes - torch) / np.hypot(lanes_error, torch_error)
        for i, lr in enumerate(RATES):
            both = (
                f"{lanes[i]:.{digits}f} ± {lanes_error[i]:.{digits}f}",
                f"{torch[i]:.{digits}f} ± {torch_error[i]:.{digits}f}",
            )
            lines.append(
                f"| {lr:g} | {'U' if name == 'loss' else 'S'} | {' | '.join(both)} | {apart[i]:+.2f} |"
            )
    return "\n".join(lines)


def _figure(stationary: dict[str, xr.Dataset]) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, 2),
        (("loss", "training loss U"), ("entropy", f"entropy S (nats), k = {K}")),
        strict=True,
    ):
        for (engine, one), (color, marker), shift in zip(
            stationary.items(), distinct(), (0.98, 1.02), strict=False
        ):
            mean, error = _mean_and_error(one[name])
            axes.errorbar(
                shift * np.array(RATES),
                mean,
                error,
                color=color,
                marker=marker,
                capsize=3,
                linestyle="none",
                label=engine,
            )
        axes.set(xscale="log", xlabel="learning rate", ylabel=label)
        axes.legend(title=f"{SEEDS} seeds, standard errors")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
