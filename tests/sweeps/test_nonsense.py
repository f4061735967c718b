"""What is not allowed at a public door is named: the argument, what was wrong, what is allowed."""

import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from made import made_sweep
from tiny import TINY

import pythermo as pt
from pythermo import figures
from pythermo.config.preset import Preset

NONSENSE = [None, "x", -1, 0, 1.5, math.nan, math.inf, [], [None], object()]
NAN, INF = math.nan, math.inf


def doors(folder):
    """Return each parameter's door and which nonsense it takes."""
    sweep = made_sweep()
    return {
        "config of run": ("config", lambda value: pt.run(value, folder), []),
        "out of run": ("out", lambda value: pt.run(TINY, value), [None, "x"]),
        "report": ("report", lambda value: pt.run(TINY, report=value), [None]),
        "seconds": ("checkpoint_seconds", lambda value: pt.run(TINY, folder, None, value), [0, 1.5, INF]),
        "config of sweep": ("config", lambda value: pt.sweep(value, [0.1], folder), []),
        "lr": ("lr", lambda value: pt.sweep(TINY, value, folder, jobs=1), []),
        "one lr": ("lr", lambda value: pt.sweep(TINY, [value], folder, jobs=1), [1.5]),
        "out of sweep": ("out", lambda value: pt.sweep(TINY, [0.1], value, jobs=1), ["x"]),
        "seeds": ("seeds", lambda value: pt.sweep(TINY, [0.1], folder, seeds=value), []),
        "one seed": ("seeds", lambda value: pt.sweep(TINY, [0.1], folder, seeds=[value]), [0]),
        "executor": ("executor", lambda value: pt.sweep(TINY, [0.1], folder, executor=value), [None]),
        "jobs": ("jobs", lambda value: pt.sweep(TINY, [0.1], folder, jobs=value), [None]),
        "out of load_sweep": ("out", pt.load_sweep, []),
        "folder": ("folder", pt.load_network, []),
        "sweep": ("sweep", pt.analyze, []),
        "last": ("last", lambda value: pt.analyze(sweep, last=value), []),
        "fit": ("fit", lambda value: pt.analyze(sweep, last=3, fit=value), [None]),
        "k": ("k", lambda value: pt.analyze(sweep, last=3, k=value), []),
        "preset": ("preset", Preset.load, []),
        "settings": ("settings|--set", lambda value: Preset.load("digits-up", value), [[]]),
        "text": ("text|the configuration", pt.RunConfig.from_toml, []),
        "lr of a member": ("lr", lambda value: pt.Member(value, 0), [1.5]),
        "seed of a member": ("seed", lambda value: pt.Member(0.1, value), [0]),
        "radius of a member": ("radius", lambda value: pt.Member(0.1, 0, radius=value), [None, 1.5]),
        "titled": ("titled", figures.stationary_values, []),
        "sweeps": ("sweeps", figures.values_along_runs, []),
        "figure": ("figure", lambda value: figures.save(value, folder / "figure"), []),
        "path": ("path", lambda value: figures.save(figures.signal_to_noise({"made": pt.analyze(sweep, 3)}), value), ["x"]),
        "config.changed": ("lr", lambda value: TINY.changed(lr=value), [1.5]),
    }  # fmt: skip


def same(one, other):
    return one is other or (type(one) is type(other) and (one == other or (one != one and other != other)))


@pytest.mark.parametrize("door", doors(None))
def test_nonsense_is_named(tmp_path, door, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, call, taken = doors(tmp_path / "folder")[door]
    for value in NONSENSE:
        if any(same(value, one) for one in taken):
            continue
        with pytest.raises((ValueError, TypeError, OSError)) as raised:
            call(value)
        assert re.match(rf"({name})\b.*:? ", str(raised.value)), f"{door}, {value!r}: {raised.value}"
        assert pytest_says_what(raised.value), raised.value
    assert not list((tmp_path / "folder").glob("*/*"))


def pytest_says_what(error):
    """Whether a message has more than the argument's name."""
    return len(str(error)) > 20


def test_arrays_of_numpy_are_several(tmp_path):
    with ThreadPoolExecutor(1) as one:
        found = pt.sweep(TINY, np.array([0.01, 0.02], np.float32), tmp_path, np.int64(1), executor=one)
    assert found["lr"].values.tolist() == [float(np.float32(0.01)), float(np.float32(0.02))]
    with pytest.raises(TypeError, match=r"lr: must be numbers in a list or an array of one dimension"):
        pt.sweep(TINY, np.ones((2, 2)), tmp_path)
    with pytest.raises(TypeError, match=r"seeds: must be numbers in a list"):
        pt.sweep(TINY, [0.1], tmp_path, seeds="12")


def test_an_iteration_that_is_none(tmp_path):
    pt.run(TINY, tmp_path, report=lambda *_: None)
    for value in ("x", 1.5, math.nan, object()):
        with pytest.raises(TypeError, match="iteration: must be an int"):
            pt.load_network(tmp_path, value)
    with pytest.raises(ValueError, match=r"iteration: .* only those of \[15\]"):
        pt.load_network(tmp_path, 3)


def test_a_dataset_that_is_no_sweep():
    with pytest.raises(ValueError, match=r"sweep: lacks loss, entropy, .*lr, iteration, k"):
        pt.analyze(xr.Dataset())
    with pytest.raises(ValueError, match="sweep: lacks loss, which"):
        pt.analyze(made_sweep().drop_vars("loss"), last=3)
    with pytest.raises(ValueError, match="last: must be given"):
        pt.analyze(made_sweep())


@pytest.mark.parametrize("key", ["", ".", "training.", ".seed", "training..seed"])
def test_keys_with_empty_parts(key):
    with pytest.raises(ValueError, match="is not a key; parts of it are empty"):
        TINY.changed(**{key: 1})
    with pytest.raises(ValueError, match=r"--set: .* is not of the form key=value"):
        Preset.load("digits-up", [f"{key}=1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "digits-quick", "--jobs", "two"], "jobs"),
        (["sweep", "digits-quick", "--jobs", "0"], "jobs"),
        (["sweep", "digits-quick", "--set", "nonsense"], "--set: 'nonsense' is not of the form key=value"),
        (["sweep", "digits-quick", "--set", "run.training.nonsense=1"], "run.training.nonsense: unknown key"),
        (["sweep", "digits-quick", "--set", "seeds=x"], "seeds"),
        (["sweep", "nonsense"], "preset: 'nonsense' is unknown"),
        (["simulate", "out.nc", "--system", "nonsense"], "--system: must be one of up, op, noise"),
        (["simulate", "out.nc", "--retraction", "nonsense"], "retraction"),
        (["simulate", "out.nc", "--system", "noise", "--sigma", "-1"], "sigma"),
        (["analyze", "nowhere"], "out: nowhere holds no sweep"),
    ],
)
def test_the_command_line(tmp_path, arguments, said):
    done = subprocess.run(
        [sys.executable, "-c", "from pythermo.cli import app; app()", *arguments],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert said in done.stderr
