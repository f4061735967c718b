"""What defines a run: read from TOML, checked by name and type, written beside the results."""

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pythermo.config.member import Member

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ImportPath = Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]


class Section(BaseModel):
    """A table of a configuration: it cannot be changed, and has the keys that are listed and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Return the section with these values; ValueError has a line, starting with the key, per problem."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # A default that depends on a value in error is none of its own.
            own = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
            raise ValueError("\n".join(_problem(one) for one in own)) from None

    def changed(self, **values: Any) -> Self:
        """Return the same configuration with other values for some keys.

        Parameters
        ----------
        **values
            By dotted keys. Where the name of the network changes, keys go that the new one does not have.

        Raises
        ------
        ValueError
            For an unknown key or a value that is not allowed; each is named.

        Examples
        --------
        >>> preset = Preset.load("digits-quick")
        >>> preset.run.changed(lr=0.1, **{"training.radius": 2.0}).training.radius
        2.0
        """
        nested = self.model_dump(exclude_unset=True)
        for key, value in values.items():
            if not all(key.split(".")):
                raise ValueError(f"{key!r}: is not a key; parts of it are empty")
            set_key(nested, key, value)
        return self.checked(nested)


def _problem(error: Mapping[str, Any]) -> str:
    """Return what pydantic found as one line that starts with the key."""
    key = ".".join(str(part) for part in error["loc"] if part not in _MEMBERS_OF_UNIONS)
    what = "unknown key" if error["type"] == "extra_forbidden" else error["msg"]
    plain = error["type"] not in ("missing", "extra_forbidden", "value_error")
    given = f" (given: {error['input']!r})" if plain else ""
    what = what.removeprefix("Value error, ")
    joint = "." if re.match(r"[a-z_]+: ", what) else ": "  # a section that names its own key
    return f"{key}{joint}{what}{given}" if key else f"{what}{given}"


class PackageNetwork(Section):
    """One of `pythermo.models`.

    The head's norm is that which goes with the loss if not given: 10 for cross-entropy, 1.5 for "mse".
    """

    name: Literal["ConvNet", "ResNet18"]
    width: PositiveInt
    head_norm: PositiveFloat | None = None

    @property
    def title(self) -> str:
        """What figures call it."""
        return f"{self.name}({self.width})"


class OwnNetwork(Section):
    """A network of the user's own, at the import path ``package.module:name``.

    It is called with ``in_channels``, ``num_classes`` and ``arguments``, and returns a module whose
    trained parameters are those that require a gradient, or those for which the predicate at the import
    path ``trained`` is true of name and parameter. They must be scale-invariant together, which is checked.
    """

    name: Literal["own"]
    path: ImportPath
    arguments: dict[str, Any] = {}
    trained: ImportPath | None = None

    @property
    def title(self) -> str:
        """What figures call it."""
        values = ", ".join(f"{value}" for value in self.arguments.values())
        return f"{self.path.split(':')[1]}({values})"


NETWORKS: dict[str, type[PackageNetwork | OwnNetwork]] = {
    "ConvNet": PackageNetwork,
    "ResNet18": PackageNetwork,
    "own": OwnNetwork,
}
_MEMBERS_OF_UNIONS = {*NETWORKS, "value", "piece"}  # as pydantic names them beside keys
Network = Annotated[PackageNetwork | OwnNetwork, Field(discriminator="name")]


class DataConfig(Section):
    """The images: see `pythermo.data.load`."""

    name: Literal["digits", "fashion-mnist", "cifar10", "cifar100"]
    side: PositiveInt | None = None
    samples_per_class: PositiveInt | None = None
    test_samples: PositiveInt | None = None
    label_noise: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    seed: Seed = 1


def _retraction(given: dict[str, Any]) -> Literal["projection"] | None:
    return "projection" if given.get("protocol") == "sphere" else None


class TrainingConfig(Section):
    """SGD: by which protocol, how long, with which batches, from where, on which device.

    The ``protocol`` "sphere" brings each step back to the sphere of the ``radius`` by a ``retraction``. The
    others have none, but ``weight_decay`` and a norm that is free: at a fixed learning rate, "fixed-lr", or
    at a fixed effective one, "fixed-elr", that of the unit sphere. They start from the norm ``radius``; with
    ``start = "predicted"`` the norm is set, up to a tenth of the run, to what its gradients say
    (`pythermo.config.schedule.rescaled_iterations`), for it is slow to find it.

    ``window_device`` is where the iterates of the entropy are kept: on the ``device``, or in pinned memory
    of the "host" where they do not fit there. ``cuda_graph`` captures forward pass, backward pass and step
    in one CUDA graph, to the same bits. ``engine`` is what computes steps and measurements: "torch", one run
    after the other; "lanes", those of a sweep side by side, in the processor's vectors or a device's warps;
    "auto" is settled when a folder is made, which says it ever after (`pythermo.sweeps.engine`).
    """

    iterations: PositiveInt
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    batch_size: PositiveInt = 128
    sampling: Literal["iid", "epochs"] = "iid"
    protocol: Literal["sphere", "fixed-lr", "fixed-elr"] = "sphere"
    retraction: Literal["projection", "exponential"] | None = Field(default_factory=_retraction)
    radius: PositiveFloat = 1.0
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    start: Literal["radius", "predicted"] = "radius"
    seed: Seed = 0
    initial_seed: Seed = 1
    head_seed: Seed = 4
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    window_device: Literal["device", "host"] = "device"
    cuda_graph: bool = False
    engine: Literal["auto", "lanes", "torch"] = "auto"

    @model_validator(mode="after")
    def _protocol_has_what_it_takes(self) -> Self:
        if self.protocol == "sphere":
            if self.retraction is None:
                raise ValueError("retraction: must be projection or exponential on the sphere")
            if self.weight_decay > 0.0:
                raise ValueError(
                    "weight_decay: has no effect on the sphere, where each step is brought back; leave it "
                    "out, or choose the protocol fixed-lr or fixed-elr"
                )
            if self.start != "radius":
                raise ValueError("start: must be radius on the sphere, whose radius is fixed")
            return self
        if self.retraction is not None:
            raise ValueError(
                f"retraction: must be left out at the protocol {self.protocol}, which brings no step back "
                f"to a sphere, not {self.retraction!r}"
            )
        if self.weight_decay == 0.0:
            raise ValueError(
                f"weight_decay: must be positive at the protocol {self.protocol}; without it the norm grows "
                "without end"
            )
        return self

    @model_validator(mode="after")
    def _device_has_what_is_chosen(self) -> Self:
        if self.device == "cpu" and (self.cuda_graph or self.window_device == "host"):
            raise ValueError("cuda_graph and window_device = host are for a CUDA device; device is cpu")
        return self


class MeasurementConfig(Section):
    """What is measured, and when.

    Measurements are made at iterations 0 to 9, at ``count`` log-spaced ones from 10 to the end, and at
    ``late`` evenly spaced ones in the second half; the last ``stationary`` of them count as stationary.
    Entropies are those of the last ``window`` of every ``stride``-th iterate: the farther apart, the more
    independent they are. The SNR is that of ``gradients`` minibatch gradients around their mean or around
    the gradient of evaluation batches. The weights of ``snapshots`` iterates are kept as files of the run:
    the last, and of more than one the first and log-spaced ones from 10^4 on.

    Where measurements count as stationary, the curvature of U is measured too, on request: the trace of its
    Hessian by ``hessian_probes`` probes, its largest eigenvalue by ``power_iterations``. Products with the
    Hessian are differences of gradients on both sides of the weights, ``hessian_step`` of their norm away.
    """

    count: PositiveInt = 193
    late: Annotated[int, Field(ge=0)] = 0
    stationary: PositiveInt = 50
    window: Annotated[int, Field(ge=2)] = 1000
    stride: PositiveInt = 1
    gradients: Annotated[int, Field(ge=2)] = 1000
    full_gradient: Literal["mean", "evaluation"] = "mean"
    evaluation_batch: PositiveInt = 1024
    snapshots: Annotated[int, Field(ge=0)] = 1
    hessian_probes: Annotated[int, Field(ge=0)] = 0
    hessian_step: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-2
    power_iterations: Annotated[int, Field(ge=0)] = 0
    seed: Seed = 0


class RunConfig(Section):
    """One run: one learning rate, one seed of the training draws.

    Read it with `from_toml`, or take ``Preset.load("digits-up").run``; change it with `changed`.

    Attributes
    ----------
    lr : float
        Learning rate.
    model : PackageNetwork or OwnNetwork
        The network.
    data : DataConfig
        The images.
    training : TrainingConfig
        SGD: its protocol, length, batches.
    measurement : MeasurementConfig
        What is measured, and when.
    """

    lr: PositiveFloat = 0.01
    model: Network
    data: DataConfig
    training: TrainingConfig
    measurement: MeasurementConfig = MeasurementConfig()

    @property
    def member(self) -> Member:
        """Which member of a sweep over learning rates and seeds this is."""
        return Member(self.lr, self.training.seed)

    def at(self, member: Member) -> Self:
        """Return the configuration of another member of its sweep."""
        return self.changed(**member.changes)

    def to_toml(self, without: Collection[str] = ()) -> str:
        """Return the configuration as TOML, without some dotted keys."""
        values = self.model_dump(exclude_none=True)
        for key in without:
            remove_key(values, key)
        return tomli_w.dumps(values)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        r"""Read a configuration; ValueError names each key that is unknown or of a wrong type.

        Examples
        --------
        >>> text = 'model = {name = "ConvNet", width = 2}\ndata.name = "digits"\ntraining.iterations = 100'
        >>> RunConfig.from_toml(text).training.batch_size
        128
        """
        if not isinstance(text, str):
            raise TypeError(f"text: must be a configuration in TOML, not {text!r}")
        try:
            return cls.checked(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"the configuration is not TOML: {error}") from error


def differing_keys(one: RunConfig, other: RunConfig, without: Collection[str] = ()) -> list[str]:
    """Return the dotted keys, but for some, in which two configurations differ, with both values."""
    flat_one, flat_other = _flatten(one.model_dump()), _flatten(other.model_dump())
    return [
        f"{key}: {flat_one.get(key)!r} there, {flat_other.get(key)!r} here"
        for key in sorted(flat_one.keys() | flat_other.keys())
        if key not in without and flat_one.get(key) != flat_other.get(key)
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested tables, which are made where they lack."""
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ValueError(f"{key}: '{parent}' is a value and has no keys")
    section[last] = value
    if parents[-1:] == ["model"] and last == "name":
        keep_keys_of_network(section)


def keep_keys_of_network(table: dict[str, Any]) -> None:
    """Remove from the table of a network what was another's and the one that it names does not have."""
    network = NETWORKS.get(str(table.get("name")))
    if network is not None:
        for key in table.keys() - network.model_fields.keys():
            del table[key]


def remove_key(values: dict[str, Any], key: str) -> None:
    """Remove a dotted key of nested tables."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values[parent]
    del values[last]
