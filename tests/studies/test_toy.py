import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from pythermo import sphere
from pythermo.cli import app
from pythermo.estimators.temperature import fit_temperature
from pythermo.studies import toy

UP, OP = toy.SYSTEMS["UP"], toy.SYSTEMS["OP"]


def test_the_papers_grid():
    assert len(toy.LRS) == 80
    assert (np.diff(toy.LRS) > 0).all()
    assert toy.LRS[0] == pytest.approx(1e-3)
    assert toy.LRS[-1] == pytest.approx(10)
    assert toy.MEASURED[0] == 1
    assert toy.MEASURED[-1] == 50_000


def test_lemma_1():
    assert toy.lemma_slope(toy.snr_by_distance(UP)) == pytest.approx(1, abs=1e-3)
    assert toy.lemma_slope(toy.snr_by_distance(OP)) == pytest.approx(0, abs=1e-3)


def test_op_converges_below_one():
    found = toy.convergence(OP, steps=20_000, replicas=8)
    final = found["loss"].isel(step=-1)
    assert (final.sel(lr=slice(None, 0.996)) < 1e-31).all()
    assert (final.sel(lr=slice(1.004, None)) > 1e-6).all()


def test_the_temperature_of_the_underparameterized_toy(monkeypatch):
    monkeypatch.setattr(toy, "STATIONARY_LRS", np.logspace(-2.5, -1.0, 6))
    states = toy.stationary_states(UP, replicas=1024)
    fit = fit_temperature(states["lr"].values, states["energy"].values, states["entropy"].values)
    # Near the minimum the noise is isotropic, |noise|^2 = 4 a^2 (1 - a^2) with a^2 = 1/26, in two directions:
    # T = lr |noise|^2 / 4. Statistics know U to 1 %, T to some 5 %; curvature and lr add 5 % up to lr = 0.03.
    expected = fit.lr * (1 / 26) * (25 / 26)
    np.testing.assert_allclose(fit.temperature[1:4], expected[1:4], rtol=0.12)


def test_the_command_writes_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "REPLICAS", 64)
    monkeypatch.setattr(toy, "STATIONARY_LRS", np.logspace(-2, -1, 5))
    monkeypatch.setattr(toy, "stationary_states", lambda system: STATES(system, 32))
    result = CliRunner().invoke(app, ["reproduce", "toy", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = {path.name for path in tmp_path.iterdir()}
    figures = {
        f"{name}.{kind}"
        for name in ("figure4", "figure5", "thermodynamics", "theorem1")
        for kind in ("png", "pdf")
    }
    assert names == figures | {"up.nc", "op.nc", "stationary.nc", "summary.md", "report.html"}
    assert xr.load_dataset(tmp_path / "op.nc")["snr"].sizes["lr"] == 80
    summary = (tmp_path / "summary.md").read_text()
    assert "slope 1.0000 for UP" in summary
    assert "| OP: SNR^2 along meridians beside the closed form |" in summary


STATES = toy.stationary_states


def test_hidden_parts_of_a_curve_are_not_drawn():
    from matplotlib.figure import Figure

    from pythermo.figures.toy import _View

    view = _View.of(30.0, 20.0)
    np.testing.assert_allclose(
        np.stack([view.right, view.up, view.toward]) @ view.toward, [0, 0, 1], atol=1e-15
    )
    axes = Figure().subplots()
    view.draw(axes, np.stack([view.toward, -view.toward, view.toward]))
    x, y = axes.lines[0].get_data()
    assert np.isfinite(x).tolist() == [True, False, True]
    np.testing.assert_allclose([x[0], y[0]], 0.0, atol=1e-15)


def test_simulate_command(tmp_path):
    path = tmp_path / "chains.nc"
    arguments = ["simulate", str(path), "--lr", "0.1", "--lr", "0.2", "--steps", "300", "--replicas", "3"]
    result = CliRunner().invoke(app, [*arguments, "--window", "10", "--stride", "7"])
    assert result.exit_code == 0, result.output
    found = xr.load_dataset(path)
    assert found["trajectory"].shape == (2, 3, 10, 3)
    again = sphere.simulate(UP, [0.1, 0.2], 300, replicas=3)
    np.testing.assert_array_equal(found["final_weights"], again["final_weights"])
    for wrong, message in (
        (["--system", "left"], "--system: must be one of up, op, noise"),
        (["--window", "100"], "window: 100 samples every 100 steps"),
        (["--protocol", "free"], "protocol: must be one of"),
        (["--steps", "0"], "--steps"),
    ):
        result = CliRunner().invoke(app, [*arguments, *wrong])
        assert result.exit_code != 0
        assert message in result.output
