"""The GPU-hours of the paper's sweeps, estimated from what their runs compute.

``python -m pythermo.bench.gpu_hours`` prints the table of docs/scaling.md, of single runs, and that of
docs/cuda.md, of ensembles.
"""

from collections.abc import Callable
from math import ceil

from torch import nn

from pythermo import models
from pythermo.config.preset import Preset
from pythermo.config.schema import PackageNetwork
from pythermo.ops._lanes import DEVICE_LANES
from pythermo.sweeps.cost import Cost, cost_of_run

H100_FLOPS, H100_SHARE = 67e12, 0.3  # float32, and the share of it that we assume
PASS_SECONDS = 5e-4  # no forward and backward pass is taken for faster than its launches

# On an H200 (bench/results/gpu-h200-2026-11-26.md and -27.md), batch 128, 32x32 pixels: a member's share of a
# step in an ensemble, of 192 and 96 members; a step of one run by torch, captured.
MEMBER_SECONDS = {"convnet": 123e-6, "resnet18": 206e-6}
RUN_SECONDS = {"convnet": 1.86e-3}
SEEDS = 8

# The eight sweeps of arXiv 2505.23489: presets, and their classes.
PAPER = {
    f"{network}-{data}-{setup}": classes
    for network in ("convnet", "resnet18")
    for data, classes in (("cifar10", 10), ("cifar100", 100))
    for setup in ("up", "op")
}


def cost_of_the_paper_s(name: str) -> Cost:
    """Count what a run of one of the paper's presets costs."""
    run = Preset.load(name).run
    assert isinstance(run.model, PackageNetwork)
    network: Callable[..., nn.Module] = getattr(models, run.model.name)
    model = network(run.model.width, num_classes=PAPER[name])
    return cost_of_run(model, (3, 32, 32), 50_000, 10_000, run.training, run.measurement)


def gpu_hours(cost: Cost) -> float:
    """Estimate the hours of a run on an H100, at `H100_SHARE` and no less than `PASS_SECONDS` a pass."""
    return max(cost.operations / (H100_SHARE * H100_FLOPS), cost.passes * PASS_SECONDS) / 3600


def table() -> str:
    """Return the Markdown table of the paper's sweeps."""
    lines = [
        "| sweep | D | runs | iterations | GFLOP a step | PFLOP a run | of it measuring "
        "| hours a run (estimate) | GPU-hours (estimate) | window, checkpoint | weights kept, all runs |",
        "|" + "---|" * 11,
    ]
    all_runs, all_hours, all_kept = 0, 0.0, 0
    for name in PAPER:
        preset, cost = Preset.load(name), cost_of_the_paper_s(name)
        runs, iterations, hours = len(preset.learning_rates), preset.run.training.iterations, gpu_hours(cost)
        all_runs += runs
        all_hours += runs * hours
        all_kept += runs * cost.snapshots_bytes
        cells = [
            name,
            f"{cost.weights:,}".replace(",", " "),
            f"{runs}",
            f"{runs} x {iterations / 1e6:.1f} M",
            f"{cost.training / iterations / 1e9:.1f}",
            f"{cost.operations / 1e15:.1f}",
            f"{1 - cost.training / cost.operations:.0%}",
            f"{hours:.1f}",
            f"{runs * hours:.0f}",
            f"{cost.window_bytes / 1e9:.1f} GB",
            f"{runs * cost.snapshots_bytes / 1e9:.2f} GB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| all | | {all_runs} | | | | | | {all_hours:.0f} | | {all_kept / 1e9:.1f} GB |")
    return "\n".join(lines)


def ensemble_hours(name: str) -> float:
    """Estimate the hours of a sweep with seeds as one ensemble on an H200.

    Whole warps of members step at the rate measured there, and measure at no other.
    """
    preset, cost = Preset.load(name), cost_of_the_paper_s(name)
    members = DEVICE_LANES * ceil(SEEDS * len(preset.learning_rates) / DEVICE_LANES)
    steps = preset.run.training.iterations * cost.operations / cost.training
    return members * steps * MEMBER_SECONDS[name.split("-")[0]] / 3600


def ensemble_table() -> str:
    """Return the Markdown table of the sweeps whose networks lanes have, with seeds."""
    lines = [
        "| sweep | network | members | iterations | µs a member and step | of it measuring "
        "| GPU-hours | by torch, one after the other |",
        "|" + "---|" * 8,
    ]
    for name in (one for one in PAPER if one.endswith("-up")):
        preset, cost = Preset.load(name), cost_of_the_paper_s(name)
        network, members = preset.run.model, SEEDS * len(preset.learning_rates)
        assert isinstance(network, PackageNetwork)
        kind, iterations = name.split("-")[0], preset.run.training.iterations
        steps = members * iterations * cost.operations / cost.training
        alone = f"{steps * RUN_SECONDS[kind] / 3600:.0f}" if kind in RUN_SECONDS else "not measured"
        cells = [
            name,
            f"{network.name}({network.width})",
            f"{len(preset.learning_rates)} x {SEEDS}",
            f"{iterations / 1e6:.1f} M",
            f"{1e6 * MEMBER_SECONDS[kind]:.0f}",
            f"{1 - cost.training / cost.operations:.0%}",
            f"{ensemble_hours(name):.1f}",
            alone,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), ensemble_table(), sep="\n\n")
