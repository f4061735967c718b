import json
import shutil

import pytest
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import _data_sets, _preset_names, app
from pythermo.config.preset import Preset

TINY = [
    argument
    for setting in (
        "run.training.iterations=90",
        "run.measurement={count=40, window=52, gradients=2, stationary=3}",
        "run.data.samples_per_class=15",
        "seeds=2",
        "fit={first=0, last=-1}",
        "grid=[{start=-2.0, stop=-1.0, count=3}]",
    )
    for argument in ("--set", setting)
]


def test_a_sweep_from_the_command_line(tmp_path, request):
    out = tmp_path / "sweep"
    result = CliRunner().invoke(app, ["sweep", "digits-up", *TINY, "--out", str(out), "--jobs", "1"])
    assert result.exit_code == 0, result.output
    for name in ("sweep.nc", "figure1.png", "figure2.pdf", "figure3.png", "neighbors.png", "summary.md"):
        assert f"wrote {out / name}" in result.output
        assert (out / name).stat().st_size > 0
    (out / "summary.md").unlink()
    # A learning rate that is there from another grid does not shift the range of the fit.
    preset = Preset.load(out / "preset.toml")
    assert pt.sweep(preset.run, [0.02], out, jobs=1)["lr"].values.tolist() == [0.02]
    request.getfixturevalue("one_figure")
    again = CliRunner().invoke(app, ["analyze", str(out), "--json"])
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert found["setups"][0]["stationary"]["lr"] == preset.learning_rates
    assert str(out / "report.html") in found["written"]
    assert "| 0.02 |" not in (out / "summary.md").read_text()
    assert (out / "summary.md").exists()
    assert pt.load_sweep(out).sizes["lr"] == 4
    shutil.rmtree(next(out.glob("lr_0.1*")))
    lacking = CliRunner().invoke(app, ["analyze", str(out)])
    assert lacking.exit_code == 1
    assert "the sweep sweep lacks 1 of its 6 runs, such as lr 0.1, seed 0" in lacking.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sweep", "digits-up", "--set", "run.training.iterration=3"],
            "run.training.iterration: unknown key",
        ),
        (
            ["sweep", "digits-up", "--set", "run.measurement.window=3000"],
            "window of 3000 iterates, 72 apart, is not full",
        ),
        (["sweep", "digits-up", "--set", "run.measurement.window=50"], "must be more than the 50 neighbors"),
        (["sweep", "digits-up", "--set", "run.lr=5.0"], "run.lr: has no effect in a preset"),
        (["sweep", "digits-up", "--set", "fit.tolerance=inf"], "fit.tolerance: "),
        (["sweep", "mnist"], "preset: 'mnist' is unknown"),
        (["analyze", "nowhere"], "nowhere holds no sweep"),
    ],
)
def test_mistakes_are_one_message(arguments, message):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_info_for_programs():
    found = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert found["pythermo"] == pt.__version__
    assert "chosen" in found["instruction sets"]


def test_the_shell_completes_presets_and_data_sets():
    assert _preset_names("digits-q") == ["digits-quick"]
    assert _data_sets("ci") == ["cifar10", "cifar100"]
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


def test_exit_codes_are_said():
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "0 done, 1 an error that the message names, 2 wrong usage, 130 stopped" in text
    assert CliRunner().invoke(app, ["sweep"]).exit_code == 2


def test_info():
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    for word in ("pythermo:", "compiler:", "chosen", "threads:", "CUDA:", "torch:"):
        assert word in result.output
