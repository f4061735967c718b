"""The report on sweeps over two axes, as text, as a page and as JSON."""

import json

import numpy as np
import pytest
import xarray as xr
from made import gas_setup, late_sweep, setup

from pythermo.reports.html import html
from pythermo.reports.json import sweeps_json
from pythermo.reports.markdown import markdown
from pythermo.reports.sweeps import sweeps_report


@pytest.fixture(scope="module")
def gases():
    return [gas_setup(name, title=name) for name in ("fixed-elr", "fixed-lr", "sphere")]


def test_the_report_says_what_was_found(gases):
    text = markdown(sweeps_report(gases))
    for one in gases:
        slope = float(one.gas.maxwell["slope"])
        assert f"**{slope:.3f}**" in text
        off = float(one.gas.gibbs["mean_off"])
        assert f"**{off:.2f} cells**" in text
    assert "ConvNet(8) CIFAR-10 -1.128" in text
    assert "ConvNet(16) CIFAR-100 0.659" in text
    row = next(line for line in text.splitlines() if line.startswith("| 0.01 | 0.1 |"))
    cell = gases[0].gas.cells.sel(lr=0.01, weight_decay=0.1)
    assert f"| {float(cell['norm']):.4g} |" in row
    assert "Maxwell relation, dS/dlog η - dS/dlog λ" in text


def test_a_gas_and_a_sweep_of_one_axis_on_one_page(gases):
    page = html(sweeps_report([*gases, setup(late_sweep(), title="a line")]))
    assert "a line" in page
    assert "Isotherms" in page
    assert "Deviation from an ideal gas" in page
    assert "Stationary states" in page  # the plots of the line


def test_one_seed_and_little_time_are_warned_of():
    one = gas_setup("fixed-elr", seeds=1)
    text = markdown(sweeps_report([one]))
    assert "One seed says nothing of errors" in text
    assert "no interval" in text
    assert "relaxes in" in text  # 100 iterations from r = 1 at these learning rates are few
    assert 'Set run.training.start = "predicted"' in text


def test_a_jump_is_from_norms_that_fall_to_those_that_have_settled():
    """Not where cells are lacking, nor where norms still grow."""
    for factor, found in ((0.1, True), (10.0, False), (np.nan, False)):
        one = gas_setup("fixed-elr")
        cold = one.dataset["lr"] < 0.02
        changed = one.dataset["mean_r4_g2"] * xr.where(cold, factor, 1.0)
        one.dataset["mean_r4_g2"] = changed.transpose(*one.dataset["mean_r4_g2"].dims)
        assert ("jump at λ = 0.01" in markdown(sweeps_report([one]))) == found
        if found:
            assert "from η = 0.01 to 0.0215" in markdown(sweeps_report([one]))


def test_json_has_the_cells_and_the_laws(gases):
    found = json.loads(sweeps_json(gases))["setups"]
    for one, shown in zip(gases, found, strict=True):
        cells = shown["gas"]["cells"]
        np.testing.assert_allclose(cells["norm"], one.gas.cells["norm"])
        assert shown["gas"]["maxwell"]["slope"] == pytest.approx(float(one.gas.maxwell["slope"]))
    assert "an isentrope is one of learning rate and weight decay" in found[2]["gas"]["isentrope"]


def test_a_gas_that_cannot_be_analyzed_says_why():
    damaged = gas_setup("fixed-lr")
    damaged.dataset["entropy"] = damaged.dataset["entropy"] * np.nan
    text = markdown(sweeps_report([damaged]))
    assert "not known" in text
    old = gas_setup("fixed-lr")
    for name in ("mean_r2", "mean_g2"):
        del old.dataset[name]
    text = markdown(sweeps_report([old]))
    assert "Not known: sweep: lacks mean_r2" in text
    assert json.loads(sweeps_json([old]))["setups"][0]["gas"].startswith("sweep: lacks mean_r2")
