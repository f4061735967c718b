"""`python -m pythermo.bench`: run the benchmarks and print their tables."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from pythermo import _core
from pythermo.bench import step
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
    if json_file is not None:
        text = json.dumps({"step": [asdict(result) for result in results]}, indent=1)
        write_text(json_file, text + "\n")


if __name__ == "__main__":
    typer.run(main)
