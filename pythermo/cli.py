"""The command line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated

import typer

from pythermo.studies.experiments import EXPERIMENTS, STUDIES, Experiment, Study

if TYPE_CHECKING:
    from pythermo.config.preset import Preset

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure the thermodynamics of neural-network training: loss, entropy and temperature of SGD.",
    epilog="Exit codes: 0 done, 1 an error that the message names, 2 wrong usage, 130 stopped by Ctrl-C.",
)
reproduce_app = typer.Typer(no_args_is_help=True, help="Run a whole experiment: sweeps, figures, summary.")
app.add_typer(reproduce_app, name="reproduce")
data_app = typer.Typer(no_args_is_help=True, help="Fetch data sets, say where they are.")
app.add_typer(data_app, name="data")

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
AsJson = Annotated[
    bool, typer.Option("--json", help="Write JSON for programs, and nothing else, to the output.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be run, with memory and an estimate of the time.")
]


def _preset_names(incomplete: str) -> list[str]:
    """Return the presets that begin so, for the shell's completion."""
    from pythermo.config.preset import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def _data_sets(incomplete: str) -> list[str]:
    """Return the data sets that begin so."""
    from pythermo.data.sources import DATA_SETS

    return [name for name in DATA_SETS if name.startswith(incomplete)]


def _add_experiment(name: str, experiment: Experiment) -> None:
    """Make an experiment a command: ``pythermo reproduce NAME``."""

    @reproduce_app.command(name, help=experiment.description)
    def reproduce_experiment(
        out: Out = None,
        jobs: Jobs = None,
        settings: Settings = None,
        quick: Annotated[bool, typer.Option("--quick", help="A part of it, in minutes.")] = False,
        executor: ExecutorName = None,
        dry_run: DryRun = False,
    ) -> None:
        with _errors_as_messages():
            from pythermo.config.preset import Preset
            from pythermo.studies.results import reproduce
            from pythermo.sweeps.executors import executor_of

            chosen = experiment.quick if quick else experiment.presets
            if not chosen:
                raise ValueError(f"--quick: {name} has no quick version; --set makes one, for instance")
            presets = {setup: Preset.load(preset, settings or []) for setup, preset in chosen.items()}
            if dry_run:
                _say_plans(presets, jobs)
                return
            folder = out or Path("out") / (f"{name}-quick" if quick else name)
            with executor_of(executor) as workers:
                written = reproduce(presets, folder, workers, jobs)
            _say_written(written)


for _name, _experiment in EXPERIMENTS.items():
    _add_experiment(_name, _experiment)


def _add_study(name: str, study: Study) -> None:
    """Make a study a command: ``pythermo reproduce NAME``."""

    @reproduce_app.command(name, help=study.description)
    def reproduce_study(out: Out = None) -> None:
        with _errors_as_messages():
            _say_written(resolve_name(study.function)(out or Path("out") / name))


for _name, _study in STUDIES.items():
    _add_study(_name, _study)


@app.command()
def sweep(
    preset: Annotated[
        str,
        typer.Argument(help="Name of a preset of the package, or a TOML file.", autocompletion=_preset_names),
    ],
    settings: Settings = None,
    out: Out = None,
    jobs: Jobs = None,
    executor: ExecutorName = None,
    dry_run: DryRun = False,
) -> None:
    """Run a preset's sweep over learning rates and analyze it."""
    with _errors_as_messages():
        from pythermo.config.preset import Preset
        from pythermo.studies.results import write_results
        from pythermo.sweeps.executors import executor_of
        from pythermo.sweeps.preset import run_preset

        loaded = Preset.load(preset, settings or ())
        if dry_run:
            _say_plans({Path(preset).stem: loaded}, jobs)
            return
        folder = out or Path("out") / Path(preset).stem
        with executor_of(executor) as workers:
            run_preset(loaded, folder, workers, jobs)
        _say_written(write_results(folder))


@app.command()
def presets() -> None:
    """List the presets of the package."""
    from pythermo.config.preset import Preset, preset_names

    for name in preset_names():
        typer.echo(f"{name:<26}{Preset.load(name).description}")


@app.command()
def analyze(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep, or of several.")], as_json: AsJson = False
) -> None:
    """Write figures, summary and report of finished sweeps anew."""
    with _errors_as_messages():
        from pythermo.reports.json import sweeps_json
        from pythermo.studies.results import write_results_of
        from pythermo.sweeps.setups import read_setups

        setups = read_setups(folder)
        written = write_results_of(setups, folder)
        if as_json:
            typer.echo(sweeps_json(setups, written))
        else:
            _say_written(written)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep, or of several, that are running.")],
    seconds: Annotated[int, typer.Option(min=1, help="Between two writings of the page.")] = 10,
) -> None:
    """Write the page of sweeps that are running anew every few seconds, until they are finished."""
    with _errors_as_messages():
        from pythermo.studies import report

        _say_written([report.watch(folder, seconds, typer.echo)])


@app.command("open")
def open_page(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep, of several, or of a study.")],
) -> None:
    """Open the page of a folder in the browser; written first, if it is not there."""
    with _errors_as_messages():
        import webbrowser

        from pythermo.studies import report

        page = folder.expanduser() / report.PAGE
        if not page.exists():
            page = report.report(folder)
            _say_written([page])
        if not webbrowser.open(page.resolve().as_uri()):
            raise OSError(f"no browser was found; open {page} in one by hand")


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
        from pythermo.sweeps.files import destination, write_dataset

        systems: dict[str, sphere.System] = {
            "up": sphere.underparameterized(),
            "op": sphere.overparameterized(),
            "noise": sphere.IsotropicNoise(dim, sigma),
        }
        if system not in systems:
            raise ValueError(f"--system: must be one of {', '.join(systems)}, not {system!r}")
        out = destination("OUT", out)
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


@data_app.command("fetch")
def fetch_data(
    name: Annotated[
        str, typer.Argument(help="fashion-mnist, cifar10 or cifar100.", autocompletion=_data_sets)
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE_OR_URL", help="Take it from here, not from where it is published."
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder for the files; the one where runs look, if not given.")
    ] = None,
) -> None:
    """Download a data set to PYTHERMO_DATA or the user's cache: checked, whole or not at all."""
    with _errors_as_messages():
        from pythermo.data import fetch

        for path in fetch(name, source, root):
            typer.echo(f"{name}: {path}")


@data_app.command("list")
def list_data(
    root: Annotated[Path | None, typer.Option(help="Folder to look at first.")] = None,
) -> None:
    """List the data sets: sizes, and where they are or how to get them."""
    with _errors_as_messages():
        from pythermo.data.sources import DATA_SETS, find

        typer.echo(f"{'digits':<14} 1x8x8    1497 + 300     10  classes   comes with scikit-learn")
        for name, data_set in DATA_SETS.items():
            try:
                where = str(find(name, root)[0][1].parent)
            except FileNotFoundError:
                megabytes = sum(file.size for file in data_set.editions[0]) / 1e6
                where = f"`pythermo data fetch {name}` ({megabytes:.0f} MB)"
            shape, counts = "x".join(map(str, data_set.shape)), f"{data_set.train} + {data_set.test}"
            typer.echo(f"{name:<14} {shape:<8} {counts:<14} {data_set.num_classes:<3} classes   {where}")


@app.command()
def info(as_json: AsJson = False) -> None:
    """Say what was built, what runs here and with which versions."""
    import json
    from importlib.metadata import version

    import torch

    from pythermo import _core

    built = ", ".join(_core.instruction_sets())
    rows = {
        "pythermo": version("pythermo"),
        "compiler": _core.compiler,
        "instruction sets": f"{built} built, {_core.chosen_instruction_set()} chosen",
        "threads": str(torch.get_num_threads()),
        "CUDA": _core.cuda_description(),
        "torch": f"{torch.__version__}, CUDA {'available' if torch.cuda.is_available() else 'not available'}",
        "numpy, xarray": f"{version('numpy')}, {version('xarray')}",
    }
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for name, value in rows.items():
        typer.echo(f"{name + ':':<18}{value}")


def _say_plans(presets: Mapping[str, "Preset"], jobs: int | None) -> None:
    """Write what sweeps would take, a table per sweep."""
    from pythermo.ops._devices import default_jobs
    from pythermo.sweeps.plan import plan

    for name, preset in presets.items():
        found = plan(preset)
        at_once = jobs or default_jobs(preset.run.training.device)
        typer.echo(f"{name}: {preset.description}")
        typer.echo(
            f"  {found.runs} runs of {found.iterations} iterations and {found.measurements} measurements, "
            f"D = {found.weights}, at {'; '.join(_axis(*one) for one in found.axes.items())}"
            + (f", {found.seeds} seeds each" if found.seeds > 1 else "")
        )
        together = f"{found.side_by_side} runs side by side" if found.side_by_side > 1 else "a run"
        typer.echo(
            f"  {together} in each of {at_once} processes, by the engine {found.engine}: memory of each "
            f"{found.side_by_side * found.window_bytes / 1e9:.2g} GB for windows, as much on disk for "
            f"checkpoints, {found.data_bytes / 1e9:.2g} GB for the images"
        )
        typer.echo(
            f"  time, estimated from a few steps: {1e3 * found.step_seconds:.3g} ms a step of {together}, "
            f"{found.measurement_seconds:.3g} s a measurement, {_duration(found.run_seconds)} to the end, "
            f"{_duration(found.sweep_seconds(at_once))} for all"
        )


def _axis(name: str, values: list[float]) -> str:
    return f"{name.replace('_', ' ')} {', '.join(f'{value:.3g}' for value in values)}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _say_written(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(f"wrote {path}")


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Turn the errors that a user can mend into one message and exit code 1, Ctrl-C into 130."""
    from pythermo.studies.checks import CalibrationError
    from pythermo.sweeps.sweep import SweepError
    from pythermo.sweeps.workers import ProcessNotStartedError

    try:
        yield
    except BrokenPipeError:  # who read the output has left, which click knows to end
        raise
    except (ValueError, TypeError, OSError, SweepError, CalibrationError, ProcessNotStartedError) as error:
        typer.echo(f"pythermo: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("pythermo: stopped; the same command takes the work up again", err=True)
        raise typer.Exit(130) from None
