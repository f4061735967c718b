import re
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from pythermo.cli import app

README = Path(__file__).parents[1] / "README.md"


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


def test_every_command_of_the_table_exists():
    commands = re.findall(r"\| `pythermo ([a-z]+)", README.read_text())
    assert len(commands) >= 4
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
