"""What was found in sweeps, for programs."""

import json
from pathlib import Path

import numpy as np
import pytest
from made import late_sweep, planted, setup

from pythermo.analysis.regimes import Regime
from pythermo.reports.json import plain, sweeps_json


def read(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_all_that_was_found_is_json():
    seeds, one = setup(late_sweep([0], scatter=0.03), "seeds", fit={}), setup(planted(), "one", fit={})
    found = read(sweeps_json([seeds, one], [Path("out/report.html")]))
    assert found["written"] == ["out/report.html"]
    first, second = found["setups"]
    assert first["stationary"]["lr"] == seeds.dataset["lr"].values.tolist()
    assert first["stationary"]["energy"] == seeds.analysis.stationary["energy"].values.tolist()
    assert set(first["stationary"]["regime"]) == {Regime.DRIFT, Regime.EQUILIBRIUM}
    assert first["stationarity"]["stationary"] == [False, *[True] * 7]
    assert first["estimate"]["exponent"] == seeds.estimate.exponent
    assert first["estimate"]["interval"][0] == [None, None]
    assert first["estimate"]["interval"][1] == seeds.estimate.interval[1].tolist()
    assert first["thermometers"]["noise"] == seeds.thermometers["noise"].values.tolist()
    assert second["estimate"]["interval"] is None
    assert "measurements in the quarter before the last" in second["stationarity"]


def test_a_sweep_without_a_temperature_says_why():
    alone = late_sweep().isel(lr=[3])
    (found,) = read(sweeps_json([setup(alone, fit={})]))["setups"]
    assert "at least 2 points without NaN are needed, not 1" in found["estimate"]
    assert found["stationary"]["energy"] == pytest.approx(
        alone["loss"].isel(iteration=slice(-3, None)).mean(("iteration", "seed")).values.tolist()
    )


def test_plain_values():
    values = {"a": np.float64("nan"), 1: (np.int64(2), [np.inf]), "c": np.array([1.0, -np.inf]), "d": None}
    assert plain(values) == {"a": None, "1": [2, [None]], "c": [1.0, None], "d": None}
