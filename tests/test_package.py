import subprocess
import sys
from pathlib import Path

import pytest

import pythermo as pt

ROOT = Path(__file__).parents[1]


def python(code: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def test_all_public_names_exist():
    for name in pt.__all__:
        assert getattr(pt, name) is not None


@pytest.mark.parametrize("folder", [ROOT, Path("/")])
def test_works_from_the_checkout_as_from_anywhere(folder):
    code = "import pythermo as pt, torch; w = torch.ones(2); pt.ops.projected_sgd_step_(w, torch.eye(2)[0], 1.0); print(w)"
    assert python(code, folder).strip() == "tensor([0., 1.])"


def test_the_package_alone_loads_neither_torch_nor_matplotlib():
    code = "import sys, pythermo, pythermo.cli; print([m for m in ('torch', 'matplotlib', 'xarray') if m in sys.modules])"
    assert python(code, ROOT).strip() == "[]"


def test_temperature_and_figures_need_no_torch():
    code = (
        "import sys, pythermo as pt; pt.fit_temperature([1, 2], [1, 2], [1, 2]); pt.figures.save; "
        "print('torch' in sys.modules)"
    )
    assert python(code, ROOT).strip() == "False"


def test_the_command_line_is_a_module_too():
    shown = subprocess.run(
        [sys.executable, "-m", "pythermo", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert "reproduce" in shown
    assert "sweep" in shown
