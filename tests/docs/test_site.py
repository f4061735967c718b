"""The pages: their code runs, and the reference has every public name."""

import re
import shlex
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import app

DOCS = Path(__file__).parents[2] / "docs"
QUICKLY = [
    "run.training.iterations=220",
    "run.measurement.window=52",
    "run.measurement.stride=1",
    "run.data.samples_per_class=20",
    "run.measurement.gradients=4",
    "run.measurement.count=10",
    "fit={}",
]
FEW_RATES = "grid=[{start=-2.0, stop=-1.0, count=4}]"  # fmt: skip
# What makes a page's own numbers small: texts of its code, and keys of its commands.
SHORTER = {
    "digits": {},
    "network": {"seeds = 4": "seeds = 2"},
    "cluster": {"run.training.iterations=2500": '", "'.join(QUICKLY)},
    "gpu": {"range(200)": "range(20)", "randn(64, 1000": "randn(64, 100"},
}


def blocks(page: Path, languages: str) -> list[tuple[str, str]]:
    """Return the blocks of code of a page in their order, with their languages."""
    return re.findall(rf"^```({languages})\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def run_command(line: str) -> None:
    program, *arguments = shlex.split(line.removeprefix("python -m "))
    assert program == "pythermo"
    if arguments[0] in ("reproduce", "sweep") and "--dry-run" not in arguments:
        settings = [one for setting in (*QUICKLY, FEW_RATES) for one in ("--set", setting)]
        arguments += [*settings, "--jobs", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


# Dask has tests of its own.
SELDOM = {"cluster": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SELDOM.get(name, ())) for name in SHORTER])
def test_a_tutorial_runs_from_its_beginning_to_its_end(name, tmp_path, monkeypatch, one_figure):
    page = DOCS / "tutorials" / f"{name}.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda page: True)
    names: dict = {}
    with mpl.rc_context({"backend": "agg"}):
        for language, code in blocks(page, "python|console|toml"):
            file = re.match(r"# (\w+\.(py|toml))\n", code)
            for text, shorter in SHORTER[name].items():
                code = code.replace(text, shorter)
            if file:
                (tmp_path / file[1]).write_text(code)
            elif language == "python":
                exec(code, names)
            elif language == "console":
                for line in code.strip().splitlines():
                    run_command(line)
        pyplot.close("all")
    if name == "digits":
        assert (tmp_path / "digits.png").stat().st_size > 10_000
        assert names["estimate"].temperature.shape == names["equilibrium"].shape
    if name == "network":
        assert pt.load_sweep(tmp_path / "out" / "mine").attrs["weights"] == 9 * (4 + 4 * 8 + 8 * 16)


def test_every_public_name_is_in_the_reference():
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    rooms = ("models", "data", "sphere", "ops", "figures")
    wanted = {name for name in pt.__all__ if name not in rooms}
    wanted |= {name for room in rooms for name in getattr(pt, room).__all__}
    assert {
        name for name in wanted if not re.search(rf"(^   |`){re.escape(name)}(`|$)", text, re.MULTILINE)
    } == set()


def test_citation_has_the_version_and_what_a_citation_needs():
    text = (DOCS.parent / "CITATION.cff").read_text()
    assert f"version: {pt.__version__}" in text
    assert f"## {pt.__version__}" in (DOCS.parent / "CHANGELOG.md").read_text()
    for key in ("cff-version", "title", "authors", "license", "keywords", "abstract"):
        assert re.search(rf"^{key}: ?\S*", text, re.MULTILINE), key
