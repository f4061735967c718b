"""`python -m pythermo.bench`: run the benchmarks and print their tables."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pythermo import _core
from pythermo.bench import (
    batch_norm_relu,
    ensemble,
    knn,
    projected_sgd_step,
    sphere,
    thermometer,
    training,
)
from pythermo.bench import device as device_bench
from pythermo.bench.device import FULL, QUICK, DeviceResult
from pythermo.sweeps.files import destination, write_text


class Part(StrEnum):
    """What is compared."""

    STEP = "step"
    SPHERE = "sphere"
    KNN = "knn"
    BATCH_NORM_RELU = "batch_norm_relu"
    ENSEMBLE = "ensemble"
    TRAINING = "training"
    THERMOMETER = "thermometer"


def main(
    parts: Annotated[
        list[Part] | None,
        typer.Argument(help=f"{', '.join(Part)}; all if none is named.", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, or cuda: the kernels there beside its copy and matrix products.")
    ] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions and smaller sizes.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Compare pythermo with other ways of doing the same work on this machine."""
    if json_file is not None:
        try:
            json_file = destination("--json", json_file)
        except OSError as error:
            raise typer.BadParameter(str(error)) from error
    typer.echo(
        f"pythermo {_core.version}, torch {torch.__version__}, {_core.chosen_instruction_set()}; medians"
    )
    if device != "cpu":
        if parts:
            raise typer.BadParameter(f"{', '.join(parts)}: are compared on the CPU; {device} takes none")
        _on_device(device, quick, json_file)
        return
    run = {
        Part.STEP: _projected_sgd_step,
        Part.SPHERE: _sphere,
        Part.KNN: _knn,
        Part.BATCH_NORM_RELU: _batch_norm_relu,
        Part.ENSEMBLE: _ensemble,
        Part.TRAINING: _training,
        Part.THERMOMETER: _thermometer,
    }
    results: dict[str, Sequence[Any]] = {}
    for part in parts or list(Part):
        results |= run[part](quick)
    if json_file is not None:
        _write(json_file, results)


def _on_device(device: str, quick: bool, json_file: Path | None) -> None:
    results: list[DeviceResult] = []
    sizes, rounds = (QUICK, 5) if quick else (FULL, 9)
    try:
        for result in device_bench.measure(device, rounds, sizes):
            if not results:
                _show(f"Kernels on {device}", device_bench.HEADER)
            results.append(result)
            typer.echo(device_bench.row(result, results))
            if json_file is not None:
                _write(json_file, {"device": results})
    except ValueError as error:
        typer.echo(f"the benchmark on {device} did not run: {error}", err=True)
        raise typer.Exit(1) from error


def _write(json_file: Path, results: dict[str, Sequence[Any]]) -> None:
    text = json.dumps({name: [asdict(one) for one in part] for name, part in results.items()}, indent=1)
    write_text(json_file, text + "\n")


def _show(title: str, table: str) -> None:
    typer.echo(f"\n{title}\n\n{table}")


def _on_one_thread_and_all(measure: Callable[[], list[Any]]) -> list[Any]:
    before = torch.get_num_threads()
    results = []
    for threads in sorted({1, before}):
        torch.set_num_threads(threads)
        results += measure()
    return results


def _projected_sgd_step(quick: bool) -> dict[str, Sequence[Any]]:
    rounds = 9 if quick else 41
    results = _on_one_thread_and_all(
        lambda: [projected_sgd_step.measure(network, rounds) for network in projected_sgd_step.NETWORKS]
    )
    _show("One step of projected SGD, float32", projected_sgd_step.table(results))
    return {"projected_sgd_step": results}


def _sphere(quick: bool) -> dict[str, Sequence[Any]]:
    chain_steps, rounds = (2_000_000, 3) if quick else (40_000_000, 9)
    toys = [sphere.measure_toy(4096, max(16, chain_steps // 4096), rounds)]
    _show("The underparameterized toy on the sphere, float64", sphere.toy_table(toys))
    chain_counts = (64, 4096) if quick else (64, 512, 4096, 65_536)
    costs = sphere.measure_costs(rounds, chain_steps, chain_counts)
    _show("Cost of a chain-step, float64", sphere.cost_table(costs))
    return {"sphere_toy": toys, "sphere_cost": costs}


def _knn(quick: bool) -> dict[str, Sequence[Any]]:
    rounds = 3 if quick else 9
    speeds = [
        knn.measure_many_coordinates(200 if quick else 1000, 24_408, rounds),
        knn.measure_small_clouds(4 if quick else 64, 1000, torch.float32, rounds),
        knn.measure_small_clouds(4 if quick else 64, 1000, torch.float64, rounds),
        knn.measure_many_points(5000 if quick else 100_000, rounds),
    ]
    huge = None if quick else knn.measure_huge_window(1000, 1_550_016)
    speeds += [huge] if huge is not None else []
    _show("Nearest neighbors, seconds", knn.speed_table(speeds))
    errors = knn.measure_errors()
    _show("Largest relative error of the 10 nearest distances, n = 200, D = 1000", knn.error_table(errors))
    return {"knn_speed": speeds, "knn_error": errors}


def _batch_norm_relu(quick: bool) -> dict[str, Sequence[Any]]:
    rounds = 5 if quick else 21
    layers = batch_norm_relu.LAYERS[3:4] if quick else batch_norm_relu.LAYERS
    results = _on_one_thread_and_all(lambda: [batch_norm_relu.measure(layer, rounds) for layer in layers])
    _show("BatchNorm, pooling and ReLU, forward and backward, float32", batch_norm_relu.table(results))
    return {"batch_norm_relu": results}


def _ensemble(quick: bool) -> dict[str, Sequence[Any]]:
    rounds, cases = (3, ensemble.CASES[:1]) if quick else (5, ensemble.CASES)
    steps, kernels = list[ensemble.StepResult](), list[ensemble.KernelResult]()
    for turn, name in enumerate(ensemble.instruction_sets()):
        with ensemble.instruction_set(name):
            for number, case in enumerate(cases):
                others = turn == 0 and number < ensemble.OTHERS_FOR
                steps.append(ensemble.measure_step(case, rounds, others))
                kernels += ensemble.measure_kernels(case, rounds)
    _show("A training step of a member, batches of 128, one thread, float32", ensemble.step_table(steps))
    _show("Kernels of members side by side, all layers of a network", ensemble.kernel_table(kernels))
    return {"ensemble_step": steps, "ensemble_kernels": kernels}


def _training(quick: bool) -> dict[str, Sequence[Any]]:
    if quick:
        config, images = training.configuration(60, 10, 4, window=30), training.random_images(256, 128)
    else:
        config, images = training.configuration(3000, 40, 20), training.random_images(2000, 500)
    results = training.measure(config, images)
    _show("A run of ConvNet(8) on images of 32x32, float32", training.table(results))
    return {"training": results}


def _thermometer(quick: bool) -> dict[str, Sequence[Any]]:
    rounds, cases = (5, ((2, 8),)) if quick else (21, ((2, 8), (8, 8), (8, 32)))
    results = [thermometer.measure(width, side, rounds) for width, side in cases]
    _show("A thermometer beside a training loop, batches of 128, one thread", thermometer.table(results))
    return {"thermometer": results}


if __name__ == "__main__":
    typer.run(main)
