import re
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from pythermo.cli import app
from pythermo.config.preset import Preset
from pythermo.sweeps.engine import Prepared, settled

ROOT = Path(__file__).parents[1]
README, ENSEMBLES, OWN_LOOP = (
    ROOT / "README.md",
    ROOT / "docs" / "ensembles.md",
    ROOT / "docs" / "own-loop.md",
)


def test_the_python_example_runs(capsys):
    training, _ = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    torch.manual_seed(0)
    names: dict = {}
    exec(training, names)
    assert np.isfinite(names["U"]).all()
    assert (np.diff(names["S"]) > 0).all()
    assert capsys.readouterr().out


def test_the_sphere_example_runs():
    _, sphere = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(sphere, names)
    fit = names["fit"]
    # Near the minimum T = lr |noise|^2 / 4, with |noise|^2 = 4 a^2 (1 - a^2) and a^2 the least loss, 1/26. The
    # few points of a quick example know it to a fifth.
    inner = slice(2, 5)
    np.testing.assert_allclose(fit.temperature[inner], fit.lr[inner] * (1 / 26) * (25 / 26), rtol=0.2)


def test_the_example_of_the_page_about_own_loops_runs(capsys):
    (loop,) = re.findall(r"```python\n(.*?)```", OWN_LOOP.read_text(), flags=re.DOTALL)
    torch.manual_seed(0)
    exec(loop.replace("range(500)", "range(260)"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines[:6]] == ["iteration", "U", "S", "T", "lr", "|w|"]
    assert "nan" not in "".join(lines)


def test_the_networks_of_the_page_about_ensembles_train_in_lanes(tmp_path, monkeypatch, capsys):
    network, loop = re.findall(r"```python\n(.*?)```", ENSEMBLES.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(network + loop, names)
    assert names["ensemble"].weights.shape == (16, 1530 + 9 * 16 * 16)
    assert capsys.readouterr().out.startswith("tensor")
    (tmp_path / "mynetworks.py").write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    settings = ["run.model.name=own", "run.model.path=mynetworks:Deeper"]
    preset = Preset.load("digits-up", settings)
    assert settled(preset.run, None, 8, Prepared(preset.run)).training.engine == "lanes"


def test_every_command_of_the_table_exists():
    commands = re.findall(r"\| `pythermo ([a-z]+)", README.read_text())
    assert len(commands) >= 4
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
