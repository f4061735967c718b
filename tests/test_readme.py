import re
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from pythermo.cli import app

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    torch.manual_seed(0)
    names: dict = {}
    exec(code, names)
    assert np.isfinite(names["U"]).all()
    assert (np.diff(names["S"]) > 0).all()
    assert capsys.readouterr().out


def test_every_command_of_the_table_exists():
    commands = re.findall(r"\| `pythermo ([a-z]+)", README.read_text())
    assert len(commands) >= 4
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
