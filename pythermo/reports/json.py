"""What was found in sweeps for programs: the numbers of the report, as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pythermo.analysis.setup import Setup


def sweeps_json(setups: Sequence[Setup], written: Sequence[Path] = ()) -> str:
    """Return what was found in some setups as JSON; null is what is not known.

    Each setup has its ``stationary`` values by learning rate (loss units, nats), its ``stationarity``, the
    ``estimate`` of its temperature with intervals, whose law is null unless it ``has_law``, and its
    ``thermometers``; a text in one of these places says why it is not known. A sweep over two axes has
    ``gas``: its ``cells`` and laws. ``written`` are the files that go with it.
    """
    found = {"setups": [_setup(one) for one in setups], "written": [str(path) for path in written]}
    return json.dumps(plain(found), indent=1, allow_nan=False)


def _setup(setup: Setup) -> dict[str, Any]:
    if setup.is_gas:
        return _gas(setup)
    values = {
        "name": setup.name,
        "title": setup.title,
        "weights": setup.dataset.attrs["weights"],
        "seeds": setup.dataset["seed"].values,
        "stationary": setup.stationary,
    }
    try:
        analysis = setup.analysis
        return values | {
            "range_of_fit": analysis.range_of_fit,
            "has_law": analysis.has_law,
            "stationarity": analysis.stationarity,
            "estimate": setup.estimate,
            "thermometers": setup.thermometers,
        }
    except ValueError as error:
        return values | {"estimate": str(error)}


def _gas(setup: Setup) -> dict[str, Any]:
    values = {
        "name": setup.name,
        "title": setup.title,
        "weights": setup.dataset.attrs["weights"],
        "seeds": setup.dataset["seed"].values,
    }
    try:
        return values | {"gas": setup.gas}
    except ValueError as error:
        return values | {"gas": str(error)}


def plain(value: Any) -> Any:
    """Return a value as what JSON has; None for numbers that are not finite."""
    if isinstance(value, xr.Dataset):
        return {str(name): plain(one.values) for name, one in value.variables.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
