import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from pythermo import sphere
from pythermo.cli import app
from pythermo.studies import calibration, chains, intervals
from pythermo.studies.calibration import free_energy_checks, sphere_checks, sphere_sweep
from pythermo.studies.checks import Check
from pythermo.studies.gas import gas_checks, gas_sweep, gibbs_energies


def test_closed_forms_in_three_dimensions():
    # Published: S at three temperatures (tests the general formula with Bessel functions against D = 3's own).
    temperature = np.array([5e-4, 5e-3, 5e-2])
    np.testing.assert_allclose(
        sphere.von_mises_fisher_entropy(temperature, 3), [-4.7630, -2.4604, -0.1579], atol=5e-5
    )
    many = np.geomspace(1e-3, 10, 30)
    energy = 1 - 1 / np.tanh(1 / many) + many
    np.testing.assert_allclose(sphere.von_mises_fisher_energy(many, 3), energy, rtol=1e-11)
    entropy = np.log(2 * np.pi * many * (1 - np.exp(-2 / many))) + energy / many
    np.testing.assert_allclose(sphere.von_mises_fisher_entropy(many, 3), entropy, atol=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_closed_forms_are_thermodynamics(dim):
    # dU = T dS, and the limits of low temperature.
    t, step = np.geomspace(1e-3, 3, 20), 1e-4
    rise = sphere.von_mises_fisher_energy(t * (1 + step), dim) - sphere.von_mises_fisher_energy(
        t * (1 - step), dim
    )
    run = sphere.von_mises_fisher_entropy(t * (1 + step), dim) - sphere.von_mises_fisher_entropy(
        t * (1 - step), dim
    )
    # Central differences have an error of step squared; U is 1 minus a number, exact to 1e-15 / (T step).
    np.testing.assert_allclose(rise / run, t, rtol=1e-6)
    low = 1e-5
    assert sphere.von_mises_fisher_energy(low, dim) == pytest.approx((dim - 1) * low / 2, rel=1e-4)
    assert sphere.von_mises_fisher_entropy(low, dim) == pytest.approx(
        (dim - 1) / 2 * np.log(2 * np.pi * np.e * low),
        abs=dim**2 * low,  # the next order
    )


def test_the_ideal_gas_law():
    for protocol in ("fixed-lr", "fixed-elr"):
        gas = sphere.ideal_gas(np.array([0.01, 0.1]), 0.03, 0.7, 5, protocol)
        np.testing.assert_allclose(gas.pressure * gas.volume, (5 - 1) / 2 * gas.temperature, rtol=1e-14)


@pytest.fixture(scope="module")
def small_sphere():
    return sphere_sweep(3, 2048, progress=False)


@pytest.fixture(scope="module")
def small_gases():
    return [gas_sweep(protocol, 1024, progress=False) for protocol in ("fixed-elr", "fixed-lr")]


def test_temperature_energy_and_entropy_are_those_of_theory(small_sphere):
    # With 2048 replicas the statistical error of U is 0.6 %: of the 2 % and 5 % allowed, 1.3 % are bias.
    checks = sphere_checks(small_sphere)
    assert len(checks) == 5
    assert all(check.passed for check in checks), checks
    size = small_sphere["effective_samples"]
    # Samples are two correlation times apart: nearly all of them count.
    assert (size > 0.6 * 2048 * chains.SAMPLES).all()


def test_the_full_space_is_an_ideal_gas(small_gases):
    checks = [check for gas in small_gases for check in gas_checks(gas)]
    assert len(checks) == 7
    assert all(check.passed for check in checks), checks


def test_checks_fail_where_they_should(small_sphere, small_gases):
    wrong = small_sphere.assign(
        energy=1.05 * small_sphere["energy"],
        temperature=0.9 * small_sphere["temperature"],
        entropy=small_sphere["entropy"] + 0.1,
    )
    assert not any(check.passed for check in sphere_checks(wrong))
    radii = dict.fromkeys((0.1, 7.5), small_sphere)
    assert all(check.passed for check in free_energy_checks(radii))
    rolled = small_sphere.assign(entropy=small_sphere["entropy"].roll(lr=1))
    assert not any(check.passed for check in free_energy_checks({1.0: rolled}))
    gas = small_gases[1]
    tilt = gas["entropy"] + 0.1 * np.log(gas["lr"]) + 0.1 * np.log(gas["weight_decay"])
    wrong = gas.assign(radius=1.1 * gas["radius"], entropy=tilt)
    assert [check.passed for check in gas_checks(wrong)][:3] == [False, False, False]
    shifted = gas.assign(entropy=gas["entropy"].roll(lr=1))
    assert (gibbs_energies(shifted).argmin(axis=1) != np.arange(25)).any()
    assert not Check("nan", np.nan, 1.0, "1").passed


def test_the_command_writes_everything_and_fails_loudly(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SPHERE_REPLICAS", {3: 16, 16: 16})
    monkeypatch.setattr(calibration, "GAS_REPLICAS", 16)
    monkeypatch.setattr(calibration, "RADII_REPLICAS", 16)
    monkeypatch.setattr(intervals, "REPETITIONS", 2)
    monkeypatch.setattr(calibration, "SPHERE_LRS", np.logspace(-1.75, -0.75, 5))
    result = CliRunner().invoke(app, ["reproduce", "calibration", "--out", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "sphere-3.nc",
        "sphere-16.nc",
        "fixed-lr.nc",
        "fixed-elr.nc",
        "intervals-closed-form.nc",
        "intervals-3.nc",
        "intervals-16.nc",
        "calibration.png",
        "calibration.pdf",
        "gibbs.png",
        "gibbs.pdf",
        "free_energies.png",
        "free_energies.pdf",
        "summary.md",
        "report.html",
    }
    assert xr.load_dataset(tmp_path / "fixed-lr.nc")["radius"].shape == (5, 5)
    # 16 replicas are too few for the tolerances.
    assert result.exit_code == 1
    assert "checks failed" in result.output
    assert "| FAILED |" in (tmp_path / "summary.md").read_text()
