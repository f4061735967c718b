"""What defines a run and a sweep: read from TOML, checked by name and type, written beside the results."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pythermo.experiment.schedule import measured_iterations

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


# Neighbours of the entropies that the analysis and the figures use, as the paper's.
FIGURE_K = 50


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


AnySection = TypeVar("AnySection", bound=_Section)


class ModelConfig(_Section):
    """The network: one of `pythermo.models`, or one's own by its import path ``package.module:name``.

    The head's norm is that which goes with the loss if not given: 10 for cross-entropy, 1.5 for "mse".

    One's own is called with ``in_channels``, ``num_classes`` and ``arguments``, and returns a module whose
    trained parameters are those that require a gradient, or those for which the predicate at the import
    path ``trained`` is true of name and parameter. They must be scale-invariant together, which is checked.
    """

    name: Annotated[str, Field(pattern=r"^(ConvNet|ResNet18|[\w.]+:[\w.]+)$")]
    width: PositiveInt | None = None
    head_norm: PositiveFloat | None = None
    arguments: dict[str, Any] = {}
    trained: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is the user's own."""
        return ":" in self.name

    @property
    def title(self) -> str:
        """What figures call it."""
        if not self.is_own:
            return f"{self.name}({self.width})"
        values = ", ".join(f"{value}" for value in self.arguments.values())
        return f"{self.name.split(':')[1]}({values})"

    @model_validator(mode="after")
    def _keys_of_one_kind(self) -> Self:
        if self.is_own and not (self.width is None and self.head_norm is None):
            raise ValueError("width and head_norm are for the package's networks; use arguments")
        if not self.is_own and self.width is None:
            raise ValueError(f"width: {self.name} needs one")
        if not self.is_own and (self.arguments or self.trained is not None):
            raise ValueError("arguments and trained are for a network by its import path")
        return self


class DataConfig(_Section):
    """The images: see `pythermo.data.load`."""

    name: Literal["digits", "fashion-mnist", "cifar10", "cifar100"]
    side: PositiveInt | None = None
    samples_per_class: PositiveInt | None = None
    test_samples: PositiveInt | None = None
    label_noise: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    seed: Seed = 1


class TrainingConfig(_Section):
    """SGD on the sphere: how long, with which batches, from where, on which device.

    ``window_device`` is where the iterates of the entropy are kept: on the ``device``, or in pinned memory
    of the "host" where they do not fit there. ``cuda_graph`` captures forward pass, backward pass and step
    in one CUDA graph, to the same bits.
    """

    iterations: PositiveInt
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    batch_size: PositiveInt = 128
    sampling: Literal["iid", "epochs"] = "iid"
    retraction: Literal["projection", "exponential"] = "projection"
    radius: PositiveFloat = 1.0
    seed: Seed = 0
    initial_seed: Seed = 1
    head_seed: Seed = 4
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    window_device: Literal["device", "host"] = "device"
    cuda_graph: bool = False

    @model_validator(mode="after")
    def _cuda_where_it_is_needed(self) -> Self:
        if self.device == "cpu" and (self.cuda_graph or self.window_device == "host"):
            raise ValueError("cuda_graph and window_device = host are for a CUDA device; device is cpu")
        return self


class MeasurementConfig(_Section):
    """What is measured, and when.

    Measurements are made at iterations 0 to 9 and at ``count`` log-spaced ones from 10 to the end; the
    last ``stationary`` of them count as stationary. Entropies are those of the last ``window``
    iterates, the SNR that of ``gradients`` minibatch gradients around their mean or around the gradient
    of evaluation batches. The weights of ``snapshots`` iterates are kept as files of the run: the last, and
    of more than one the first and log-spaced ones from 10^4 on.
    """

    count: PositiveInt = 193
    stationary: PositiveInt = 50
    window: Annotated[int, Field(ge=2)] = 1000
    gradients: Annotated[int, Field(ge=2)] = 1000
    full_gradient: Literal["mean", "evaluation"] = "mean"
    evaluation_batch: PositiveInt = 1024
    snapshots: Annotated[int, Field(ge=0)] = 1
    seed: Seed = 0


class RunConfig(_Section):
    """One run at one learning rate."""

    lr: PositiveFloat = 0.01
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    measurement: MeasurementConfig = MeasurementConfig()

    def with_lr(self, lr: float) -> Self:
        """Return the same configuration at another learning rate."""
        return _checked(type(self), {**self.model_dump(), "lr": float(lr)})

    def to_toml(self) -> str:
        """Return the configuration as TOML."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a configuration; ValueError names each key that is unknown or of a wrong type."""
        return _checked(cls, tomllib.loads(text))


class GridPiece(_Section):
    """Log-spaced learning rates from 10**start to 10**stop; without the last one if ``open``."""

    start: Finite
    stop: Finite
    count: PositiveInt
    open: bool = False

    def values(self) -> list[float]:
        """Return the learning rates of this piece."""
        points = [float(x) for x in np.logspace(self.start, self.stop, self.count)]
        return points[:-1] if self.open else points


class FitConfig(_Section):
    """The learning rates, by index from ``first`` to ``last`` (from the end if negative), of the fit.

    Those in equilibrium if neither is given: see `pythermo.experiment.regimes`.
    """

    first: int | None = None
    last: int | None = None
    tolerance: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0


class PublishedLaw(_Section):
    """A published power law ``prefactor * x ** exponent`` to be shown beside ours."""

    prefactor: PositiveFloat
    exponent: Finite


class Preset(_Section):
    """A sweep: a run's configuration without its learning rate, the grid, and the temperature fit.

    Of the grid's values those at the indices ``left_out`` are not used. ``published`` is a power law of T in
    the learning rate, ``published_gradients`` one of mean |g| in |G|.
    """

    description: str
    grid: Annotated[list[GridPiece], Field(min_length=1)]
    left_out: list[Annotated[int, Field(ge=0)]] = []
    fit: FitConfig = FitConfig()
    published: PublishedLaw | None = None
    published_gradients: PublishedLaw | None = None
    run: RunConfig

    @property
    def lr(self) -> list[float]:
        """The learning rates, in the order of the grid."""
        values = [value for piece in self.grid for value in piece.values()]
        return [value for index, value in enumerate(values) if index not in self.left_out]

    @model_validator(mode="after")
    def _grid_without_repeats(self) -> Self:
        count = sum(len(piece.values()) for piece in self.grid)
        if any(index >= count for index in self.left_out) or len(set(self.left_out)) >= count:
            raise ValueError(f"left_out: must leave some of the grid's {count} values, by indices below that")
        if len(set(self.lr)) != len(self.lr):
            raise ValueError("grid: a learning rate repeats")
        return self

    @model_validator(mode="after")
    def _fit_within_the_grid(self) -> Self:
        count = len(self.lr)
        for name, index in (("first", self.fit.first), ("last", self.fit.last)):
            if index is not None and not -count <= index < count:
                raise ValueError(f"fit.{name}: must be an index of the {count} learning rates, not {index}")
        return self

    @model_validator(mode="after")
    def _one_place_for_learning_rates(self) -> Self:
        if "lr" in self.run.model_fields_set:
            raise ValueError("run.lr: has no effect in a preset; the learning rates are those of the grid")
        return self

    @model_validator(mode="after")
    def _entropy_when_stationary(self) -> Self:
        measurement = self.run.measurement
        if measurement.window <= FIGURE_K:
            raise ValueError(
                f"run.measurement.window: must be more than the {FIGURE_K} neighbours of the analysis, "
                f"not {measurement.window}"
            )
        measured = measured_iterations(self.run.training.iterations, measurement.count)
        begin = measured[-measurement.stationary :][0]
        if begin < measurement.window - 1:
            raise ValueError(
                f"run.measurement: the last {measurement.stationary} measurements begin at iteration "
                f"{begin}, where the window of {measurement.window} iterates is not full"
            )
        return self

    def to_toml(self) -> str:
        """Return the preset as TOML."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, exclude={"run": {"lr"}}))

    @classmethod
    def load(cls, name_or_path: str | Path, settings: Iterable[str] = ()) -> Self:
        """Read a preset of the package by its name, or a TOML file, and apply ``key=value`` settings.

        A preset may start with ``base = "..."``: grid, tolerance and run are then those of another preset
        of the package, but for the keys that it gives itself; a network by its import path has none of
        the keys of another.

        Parameters
        ----------
        name_or_path : str or path
            ``digits-up``, or the path of a file that ends in ``.toml``.
        settings : iterable of str
            Such as ``run.training.iterations=4000``; the value is TOML.

        Raises
        ------
        ValueError
            For an unknown preset, an unknown key, a value of the wrong type; each is named.
        """
        values = _read_preset(name_or_path)
        for setting in settings:
            _apply(values, setting)
        return _checked(cls, values)


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    folder = files("pythermo.experiment") / "presets"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys in which two nested configurations differ, with both values."""
    flat_one, flat_other = _flatten(one), _flatten(other)
    return [
        f"{key}: {flat_one.get(key)!r} there, {flat_other.get(key)!r} here"
        for key in sorted(flat_one.keys() | flat_other.keys())
        if flat_one.get(key) != flat_other.get(key)
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _read_preset(name_or_path: str | Path) -> dict[str, Any]:
    if str(name_or_path).endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(f"preset: there is no file {path}")
        text = path.read_text()
    elif name_or_path in preset_names():
        text = (files("pythermo.experiment") / "presets" / f"{name_or_path}.toml").read_text()
    else:
        raise ValueError(
            f"preset: '{name_or_path}' is unknown; "
            f"there are {', '.join(preset_names())}, or give a .toml file"
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"preset: {name_or_path} is not TOML: {error}") from error
    base = values.pop("base", None)
    if base is None:
        return values
    if base not in preset_names():
        raise ValueError(f"base: '{base}' is not a preset of the package: {', '.join(preset_names())}")
    inherited = _read_preset(base)
    for of_its_own in ("published", "published_gradients"):
        inherited.pop(of_its_own, None)
    inherited["fit"] = {"tolerance": inherited.get("fit", {}).get("tolerance", 0.0)}
    return _merged(inherited, values)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with some of them changed; a table is merged, all else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both and not _names_own_network(value) else value
    return merged


def _names_own_network(table: Mapping[str, Any]) -> bool:
    """Whether a table is that of another kind of network, which keeps no key of the one before."""
    return ":" in str(table.get("name", ""))


def _apply(values: dict[str, Any], setting: str) -> None:
    """Set one dotted key from ``key=value``; a value that is no TOML is taken as a string."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ValueError(f"--set: '{setting}' is not of the form key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ValueError(f"--set: in '{key}', '{parent}' is a value and has no keys")
    if key.strip() == "run.model.name" and _names_own_network(section | {last: value}):
        for others in ("width", "head_norm"):
            section.pop(others, None)
    section[last] = value


def _checked(cls: type[AnySection], values: Mapping[str, Any]) -> AnySection:
    """Validate; every problem is one line that starts with the key."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = "".join(f"{part}." for part in problem["loc"]).rstrip(".")
            what = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
            plain = problem["type"] not in ("missing", "extra_forbidden", "value_error")
            given = f" (given: {problem['input']!r})" if plain else ""
            problems.append(f"{key}: {what}{given}".removeprefix(": ").replace("Value error, ", "", 1))
        raise ValueError("\n".join(problems)) from None
