"""The command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure the thermodynamics of neural-network training: loss, entropy and temperature of SGD.",
)
reproduce_app = typer.Typer(no_args_is_help=True, help="Run a whole experiment: sweeps, figures, summary.")
app.add_typer(reproduce_app, name="reproduce")

Out = Annotated[Path | None, typer.Option(help="Folder of the results; called again, the work goes on.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes; as many as cores if not given, or as GPUs on cuda.")
]
ExecutorName = Annotated[
    str | None,
    typer.Option("--executor", help="dask=ADDRESS: the workers of this dask scheduler instead of processes."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the preset, e.g. run.training.iterations=4000."
    ),
]


@reproduce_app.command()
def digits(
    out: Out = None,
    jobs: Jobs = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The small network, 8 learning rates, 3 minutes.")
    ] = False,
    executor: ExecutorName = None,
) -> None:
    """Temperature of SGD on scikit-learn's handwritten digits, by a small and a large ConvNet."""
    with _errors_as_messages():
        from pythermo.experiment.config import Preset
        from pythermo.experiment.executors import executor_of
        from pythermo.experiment.reproduce import DIGITS, DIGITS_QUICK, reproduce

        presets = DIGITS_QUICK if quick else DIGITS
        folder = out or Path("out") / ("digits-quick" if quick else "digits")
        loaded = {name: Preset.load(preset) for name, preset in presets.items()}
        with executor_of(executor) as workers:
            written = reproduce(loaded, folder, workers, jobs)
        _say_written(written)


@reproduce_app.command()
def toy(out: Out = None) -> None:
    """SGD on a sphere in three dimensions: figures 4 and 5, temperature, convergence, SNR (half a minute)."""
    with _errors_as_messages():
        from pythermo.experiment.toy import reproduce_toy

        _say_written(reproduce_toy(out or Path("out") / "toy"))


@reproduce_app.command()
def calibration(out: Out = None) -> None:
    """Isotropic noise, whose temperature is known: U, S, T, radius measured beside theory (a minute)."""
    with _errors_as_messages():
        from pythermo.experiment.calibration import calibrate

        _say_written(calibrate(out or Path("out") / "calibration"))


@app.command()
def sweep(
    preset: Annotated[str, typer.Argument(help="Name of a preset of the package, or a TOML file.")],
    settings: Settings = None,
    out: Out = None,
    jobs: Jobs = None,
    executor: ExecutorName = None,
) -> None:
    """Run a preset's sweep over learning rates and analyse it."""
    with _errors_as_messages():
        from pythermo.experiment.config import Preset
        from pythermo.experiment.executors import executor_of
        from pythermo.experiment.reproduce import run_preset, write_results

        loaded = Preset.load(preset, settings or ())
        folder = out or Path("out") / Path(preset).stem
        with executor_of(executor) as workers:
            run_preset(loaded, folder, workers, jobs)
        _say_written(write_results(folder))


@app.command()
def analyze(folder: Annotated[Path, typer.Argument(help="Folder of a sweep, or of several.")]) -> None:
    """Write figures and summary of finished sweeps anew."""
    with _errors_as_messages():
        from pythermo.experiment.reproduce import write_results

        _say_written(write_results(folder))


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="NetCDF file for the result.")],
    system: Annotated[str, typer.Option(help="up, op, or noise (isotropic, of known temperature).")] = "up",
    lr: Annotated[list[float] | None, typer.Option(help="Learning rate; may be given repeatedly.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="SGD steps of each chain.")] = 50_000,
    replicas: Annotated[int, typer.Option(help="Chains per learning rate.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Samples per gradient.")] = 1,
    sampling: Annotated[str, typer.Option(help="iid or epochs.")] = "iid",
    measurements: Annotated[int, typer.Option(min=1, help="Log-spaced measurements.")] = 100,
    window: Annotated[int, typer.Option(help="Samples at the end of the run.")] = 100,
    stride: Annotated[int, typer.Option(help="Steps between the window's samples.")] = 100,
    retraction: Annotated[str, typer.Option(help="projection or exponential.")] = "projection",
    protocol: Annotated[str, typer.Option(help="sphere, fixed-lr or fixed-elr.")] = "sphere",
    weight_decay: Annotated[float, typer.Option(help="In full space.")] = 0.0,
    dim: Annotated[int, typer.Option(help="Dimension D of the noise system.")] = 3,
    sigma: Annotated[float, typer.Option(help="Standard deviation of the noise.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
) -> None:
    """Run SGD chains of a small system on the sphere and write what was measured as NetCDF."""
    with _errors_as_messages():
        import numpy as np

        from pythermo import sphere
        from pythermo.experiment.storage import write_dataset

        systems: dict[str, sphere.System] = {
            "up": sphere.underparameterized(),
            "op": sphere.overparameterized(),
            "noise": sphere.IsotropicNoise(dim, sigma),
        }
        if system not in systems:
            raise ValueError(f"--system: must be one of {', '.join(systems)}, not {system!r}")
        found = sphere.simulate(
            systems[system],
            lr or [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
            steps,
            replicas=replicas,
            batch_size=batch_size,
            seed=seed,
            measure_at=np.unique(np.geomspace(1, steps, measurements).round().astype(np.int64)),
            window=window,
            stride=stride,
            retraction=retraction,  # type: ignore[arg-type]
            protocol=protocol,  # type: ignore[arg-type]
            weight_decay=weight_decay,
            sampling=sampling,  # type: ignore[arg-type]
        )
        write_dataset(out, found)
        typer.echo(f"{'lr':>10} {'last loss':>12} {'last SNR':>12}  (medians over {replicas} replicas)")
        for rate in found["lr"].values:
            last = found.sel(lr=rate).isel(step=-1).median("replica")
            typer.echo(f"{rate:>10.4g} {float(last['loss']):>12.5g} {float(last['snr']):>12.4g}")
        _say_written([out])


@app.command()
def info() -> None:
    """Say what was built, what runs here and with which versions."""
    from importlib.metadata import version

    import torch

    import pythermo
    from pythermo import _core

    built = ", ".join(_core.instruction_sets())
    rows = {
        "pythermo": pythermo.__version__,
        "compiler": _core.compiler,
        "instruction sets": f"{built} built, {_core.chosen_instruction_set()} chosen",
        "threads": str(torch.get_num_threads()),
        "CUDA": _core.cuda_description(),
        "torch": f"{torch.__version__}, CUDA {'available' if torch.cuda.is_available() else 'not available'}",
        "numpy, xarray": f"{version('numpy')}, {version('xarray')}",
    }
    for name, value in rows.items():
        typer.echo(f"{name + ':':<18}{value}")


def _say_written(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Turn the errors that a user can mend into one message and exit code 1, Ctrl-C into 130."""
    from pythermo.experiment.calibration import CalibrationError
    from pythermo.experiment.sweep import SweepError

    try:
        yield
    except (ValueError, OSError, SweepError, CalibrationError) as error:
        typer.echo(f"pythermo: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("pythermo: stopped; the same command takes the work up again", err=True)
        raise typer.Exit(130) from None
