"""A sweep as one writes it down: a run's configuration, its learning rates, the fit of the temperature."""

import math
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import tomli_w
from pydantic import Discriminator, Field, Tag, model_validator

from pythermo.config.schedule import measured_iterations, window_is_full
from pythermo.config.schema import (
    Finite,
    PositiveFloat,
    PositiveInt,
    RunConfig,
    Section,
    keep_keys_of_network,
    set_key,
)

# Neighbors of the entropies that the analysis and the figures use, as the paper's.
FIGURE_K = 50

_PRESETS = files("pythermo.config") / "presets"

# Powers of ten by different processors and versions of numpy are closer than this.
_ROUNDING = 1e-12


class GridPiece(Section):
    """Log-spaced values from 10**start to 10**stop; without the last one if ``open``."""

    start: Finite
    stop: Finite
    count: PositiveInt
    open: bool = False

    def values(self) -> list[float]:
        """Return the values of this piece."""
        points = [float(x) for x in np.logspace(self.start, self.stop, self.count)]
        return points[:-1] if self.open else points


def _tag(value: object) -> str:
    return "piece" if isinstance(value, Mapping | GridPiece) else "value"


# Of an axis: numbers and log-spaced pieces.
_Value = Annotated[PositiveFloat, Tag("value")] | Annotated[GridPiece, Tag("piece")]
Values = Annotated[list[Annotated[_Value, Discriminator(_tag)]], Field(min_length=1)]


def _listed(values: Sequence[float | GridPiece]) -> list[float]:
    listed = list[float]()
    for one in values:
        listed += one.values() if isinstance(one, GridPiece) else [one]
    return listed


class FitConfig(Section):
    """The learning rates, by index from ``first`` to ``last`` (from the end if negative), of the fit.

    Those in equilibrium if neither is given: see `pythermo.analysis.regimes`. What drifts among them is left
    out, or kept with ``drifting``, which makes a temperature of what is not stationary.
    """

    first: int | None = None
    last: int | None = None
    tolerance: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    drifting: bool = False


class PublishedLaw(Section):
    """A published power law ``prefactor * x ** exponent`` to be shown beside ours."""

    prefactor: PositiveFloat
    exponent: Finite


class Preset(Section):
    """A sweep: a run's configuration, its learning rates, its seeds, and the temperature fit.

    Attributes
    ----------
    description : str
        One line for people.
    lr : list of float, or None
        The learning rates, or else:
    grid : list of GridPiece, or None
        Log-spaced ones, but for those at the indices ``left_out``.
    weight_decay, radius : list of float or GridPiece, or None
        Values of weight decay in full space, or radii of spheres, at each of which all learning rates are
        run. That of the run, if not given.
    seeds : int
        How many training seeds at each learning rate, counted from ``run.training.seed``.
    fit : FitConfig
        The range and the tolerance of the temperature fit.
    published, published_gradients : PublishedLaw, or None
        Power laws to be shown beside ours: of T in the learning rate, and of mean |g| in |G|.
    run : RunConfig
        The run, which says nothing of the learning rate.

    Examples
    --------
    >>> preset = Preset.load("digits-up", ["run.training.iterations=100_000", "seeds=4"])
    >>> len(preset.learning_rates), preset.seeds, preset.run.training.iterations
    (8, 4, 100000)
    """

    description: str
    lr: Annotated[list[PositiveFloat], Field(min_length=1)] | None = None
    grid: Annotated[list[GridPiece], Field(min_length=1)] | None = None
    left_out: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    weight_decay: Values | None = None
    radius: Values | None = None
    seeds: PositiveInt = 1
    fit: FitConfig = FitConfig()
    published: PublishedLaw | None = None
    published_gradients: PublishedLaw | None = None
    run: RunConfig

    @property
    def learning_rates(self) -> list[float]:
        """The learning rates, in the order in which they are written."""
        if self.lr is not None:
            return self.lr
        return [value for index, value in enumerate(self._grid_values()) if index not in self.left_out]

    def _grid_values(self) -> list[float]:
        return [value for piece in self.grid or [] for value in piece.values()]

    @property
    def axes(self) -> dict[str, list[float]]:
        """The values of what the sweep goes over, but for its seeds: learning rates first."""
        others = {"weight_decay": self.weight_decay, "radius": self.radius}
        listed = {axis: _listed(values) for axis, values in others.items() if values is not None}
        return {"lr": self.learning_rates, **listed}

    def with_values_of(self, earlier: Mapping[str, Iterable[float]]) -> Self:
        """Return the preset with its axes' values listed, those of an earlier sweep as they were stored.

        A grid's values are computed, and other processors and versions of numpy round them differently.
        """
        stored = {axis: list(values) for axis, values in earlier.items()}
        listed = {
            axis: [as_stored(value, stored.get(axis, ())) for value in values]
            for axis, values in self.axes.items()
        }
        values = self.model_dump(exclude_unset=True, exclude={"grid", "left_out"})
        return self.checked({**values, **listed})

    @model_validator(mode="before")
    @classmethod
    def _run_has_a_weight_decay(cls, values: Any) -> Any:
        """Give the run the first weight decay of the sweep, without which it is not valid in full space."""
        try:
            (first, *_), run, training = values["weight_decay"], values["run"], values["run"]["training"]
            decay = 10.0 ** first["start"] if isinstance(first, Mapping) else first
            if decay > 0.0:
                return {**values, "run": {**run, "training": {"weight_decay": decay, **training}}}
        except (TypeError, KeyError, ValueError):
            pass  # what is wrong with it is said where it is read
        return values

    @model_validator(mode="after")
    def _learning_rates_once(self) -> Self:
        if (self.lr is None) == (self.grid is None):
            raise ValueError("lr, grid: one of them must say the learning rates, and not both")
        count = len(self._grid_values())
        if self.left_out and (max(self.left_out) >= count or len(set(self.left_out)) >= count):
            raise ValueError(f"left_out: must leave some of the grid's {count} values, by indices below that")
        rates = self.learning_rates
        if any(as_stored(rate, rates[:index]) != rate for index, rate in enumerate(rates)) or len(
            set(rates)
        ) != len(rates):
            raise ValueError(f"{'grid' if self.lr is None else 'lr'}: a learning rate repeats")
        return self

    @model_validator(mode="after")
    def _axes_of_the_protocol(self) -> Self:
        for axis in ("weight_decay", "radius"):
            values = self.axes.get(axis, [])
            if any(as_stored(value, values[:index]) in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"{axis}: a value repeats")
        if self.weight_decay is not None and self.run.training.protocol == "sphere":
            raise ValueError(
                "weight_decay: has no effect on the sphere; choose another run.training.protocol"
            )
        return self

    @model_validator(mode="after")
    def _fit_within_the_grid(self) -> Self:
        count = len(self.learning_rates)
        for name, index in (("first", self.fit.first), ("last", self.fit.last)):
            if index is not None and not -count <= index < count:
                raise ValueError(f"fit.{name}: must be an index of the {count} learning rates, not {index}")
        return self

    @model_validator(mode="after")
    def _one_place_for_learning_rates(self) -> Self:
        if "lr" in self.run.model_fields_set:
            raise ValueError("run.lr: has no effect in a preset; the learning rates are those of lr or grid")
        return self

    @model_validator(mode="after")
    def _entropy_when_stationary(self) -> Self:
        measurement = self.run.measurement
        if measurement.window <= FIGURE_K:
            raise ValueError(
                f"run.measurement.window: must be more than the {FIGURE_K} neighbors of the analysis, "
                f"not {measurement.window}"
            )
        measured = measured_iterations(self.run.training.iterations, measurement.count, measurement.late)
        begin = measured[-measurement.stationary :][0]
        if not window_is_full(begin, measurement.window, measurement.stride):
            apart = f", {measurement.stride} apart," if measurement.stride > 1 else ""
            raise ValueError(
                f"run.measurement: the last {measurement.stationary} measurements begin at iteration "
                f"{begin}, where the window of {measurement.window} iterates{apart} is not full"
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
        if isinstance(settings, str):
            raise TypeError(f"settings: must be several, such as [{settings!r}], not one text")
        if not isinstance(settings, Iterable):
            raise TypeError(f"settings: must be several key=value, not {settings!r}")
        for setting in settings:
            _apply(values, setting)
        try:
            return cls.checked(values)
        except ValueError as error:
            if not str(name_or_path).endswith(".toml"):
                raise
            raise ValueError(f"preset: {name_or_path} is not valid\n{error}") from None


def as_stored(lr: float, stored: Iterable[float]) -> float:
    """Return the stored learning rate that this one is but for the rounding of its last digits, or itself."""
    return next((one for one in stored if math.isclose(one, lr, rel_tol=_ROUNDING)), lr)


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _PRESETS.iterdir() if entry.name.endswith(".toml")
    )


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"preset: there is no file {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"preset: {path} is not text in UTF-8, as TOML must be: {error}") from error


def _read_preset(name_or_path: str | Path) -> dict[str, Any]:
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"preset: must be a name or the path of a .toml file, not {name_or_path!r}")
    if str(name_or_path).endswith(".toml"):
        text = _text_of(Path(name_or_path).expanduser())
    elif name_or_path in preset_names():
        text = (_PRESETS / f"{name_or_path}.toml").read_text(encoding="utf-8")
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
    if "lr" in values or "grid" in values:
        for other in ("lr", "grid", "left_out", "weight_decay", "radius"):
            inherited.pop(other, None)
    network = values.get("run", {}).get("model", {})
    if "name" in network:
        inherited["run"]["model"]["name"] = network["name"]
        keep_keys_of_network(inherited["run"]["model"])
    return _merged(inherited, values)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with some of them changed; a table is merged, all else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _apply(values: dict[str, Any], setting: str) -> None:
    """Set one dotted key from ``key=value``; a value that is no TOML is taken as a string."""
    if not isinstance(setting, str):
        raise TypeError(f"settings: must be texts of the form key=value, not {setting!r}")
    key, equals, text = setting.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ValueError(f"--set: '{setting}' is not of the form key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    try:
        set_key(values, key.strip(), value)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from None
