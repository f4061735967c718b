"""Networks as a gas: the command, and the laws on the digits."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import app
from pythermo.config.preset import Preset
from pythermo.studies.experiments import EXPERIMENTS
from pythermo.studies.results import reproduce

SHORT = (
    "run.training.iterations=120",
    "run.training.start=radius",
    "run.measurement={count=3, late=4, window=52, gradients=2, stationary=3}",
    "run.data.samples_per_class=15",
    "seeds=1",
)


def test_an_experiment_writes_sweeps_figures_and_report(tmp_path, one_worker, one_figure):
    few = {"fixed-lr": "weight_decay=[0.01, 0.03, 0.1]", "sphere": "radius=[0.5, 1.0, 2.0]"}
    gas = EXPERIMENTS["gas"].presets
    written = reproduce(
        {name: Preset.load(gas[name], [*SHORT, few[name]]) for name in few}, tmp_path, one_worker
    )
    expected = {"gas_states.png", "gas_states.pdf", "summary.md", "report.html", "sweep.nc"}
    assert {path.name for path in written} == expected
    assert all(path.stat().st_size > 1000 for path in written)
    assert dict(pt.load_sweep(tmp_path / "fixed-lr")["loss"].sizes)["weight_decay"] == 3
    told = CliRunner().invoke(app, ["analyze", str(tmp_path / "sphere"), "--json"])
    assert told.exit_code == 0, told.output
    cells = json.loads(told.stdout)["setups"][0]["gas"]["cells"]
    radii = np.array(cells["radius"])[None, :].repeat(3, axis=0)
    np.testing.assert_allclose(np.array(cells["norm"]), radii, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)  # beside other work
@pytest.mark.parametrize("name", ["elr", "lr"])
def test_the_laws_of_the_norm_on_the_digits(tmp_path, name):
    """Within 2 %, or three standard errors, in moments of every step: arXiv 2511.07308."""
    settings = ["run.training.iterations=5000", "weight_decay=[0.01, 0.03, 0.1]", "run.measurement.stride=5"]
    preset = Preset.load(f"gas-digits-{name}", settings)
    reproduce({name: preset}, tmp_path)
    found = pt.analyze_gas(pt.load_sweep(tmp_path / name))
    cells = found.cells.where(found.cells["effective_lr"] <= 0.03)
    error = np.ptp(cells["growth_over_decay_interval"].values, axis=-1) / 2 / 2.35  # Student's t of 4 seeds
    off = np.abs(cells["growth_over_decay"].values - 1.0)
    known = np.isfinite(off)
    assert known.sum() >= 12
    assert (off[known] <= np.maximum(0.02, 3 * error[known])).all()
    # T and the noise collapse; the Maxwell relation holds within a tenth on the mean of the grid.
    assert abs(float(found.exponents["temperature_collapse"])) < 0.05
    assert abs(float(found.maxwell["slope"]) - found.maxwell.attrs["theory"]) < 0.1
    # Z is 1 + SNR^2, which is far from an ideal gas.
    z, theory = cells["compressibility"].values[known], 1.0 + cells["squared_snr"].values[known]
    assert (theory > 1.4).all()
    np.testing.assert_allclose(z, theory, rtol=0.3)
