"""`python -m pythermo.bench`: run the benchmarks and print their tables."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pythermo import _core
from pythermo.bench import sphere, step
from pythermo.experiment.storage import write_text


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Compare pythermo's kernels with other ways of doing the same work on this machine."""
    typer.echo(
        f"pythermo {_core.version}, torch {torch.__version__}, {_core.chosen_instruction_set()}; "
        "medians of interleaved repetitions\n"
    )
    typer.echo("One step of projected SGD, float32\n")
    results = []
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        results += [step.measure(network, rounds=9 if quick else 41) for network in step.NETWORKS]
    typer.echo(step.table(results))
    chain_steps = 2_000_000 if quick else 40_000_000
    typer.echo("\nThe underparameterised toy on the sphere, float64\n")
    toys = [sphere.measure_toy(4096, max(16, chain_steps // 4096), rounds=3 if quick else 9)]
    typer.echo(sphere.toy_table(toys))
    typer.echo("\nCost of a chain-step, float64\n")
    chain_counts = (64, 4096) if quick else (64, 512, 4096, 65_536)
    costs = sphere.measure_costs(3 if quick else 9, chain_steps, chain_counts)
    typer.echo(sphere.cost_table(costs))
    if json_file is not None:
        parts: dict[str, list[Any]] = {"step": results, "sphere_toy": toys, "sphere_cost": costs}
        text = json.dumps({name: [asdict(one) for one in part] for name, part in parts.items()}, indent=1)
        write_text(json_file, text + "\n")


if __name__ == "__main__":
    typer.run(main)
