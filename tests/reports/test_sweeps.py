import json
import re

import pytest
from made import late_sweep, made_sweep, planted, setup

from pythermo.config.preset import FitConfig
from pythermo.reports.json import sweeps_json
from pythermo.reports.markdown import markdown, markdown_table
from pythermo.reports.sections import Report, Section, Table
from pythermo.reports.sweeps import sweeps_report, temperature_table


def test_markdown():
    table = Table(["a", "b"], [["1", "2"]])
    text = markdown(Report("Title", [Section(paragraphs=["One.", "Two."]), Section("Three", [], table)]))
    assert text == "# Title\n\nOne.\n\nTwo.\n\n## Three\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert markdown_table(table) in text


def test_the_summary_has_the_power_law_and_a_row_per_learning_rate():
    up, op = (setup(made_sweep(), title, fit=FitConfig(last=6)) for title in ("UP", "OP"))
    text = markdown(sweeps_report([up, op]))
    assert text.count("Power law through the lower hull, as published: T = (") == 2
    assert text.count("of one seed, whose scatter says nothing of its error") == 2
    assert text.count("Stationary: not known, sweep: has") == 2
    assert text.count("| 0.001 |") == 4  # two of them of the thermometers
    assert text.count("outside the fit") == 2
    assert text.count("Full gradient of the SNR: mean") == 2
    assert f"η^({up.analysis.fit.exponent:.2f}" in text
    assert "Seeds" not in text


def test_the_summary_of_seeds_has_intervals_and_says_what_drifts():
    one = setup(late_sweep([0], scatter=0.03), fit=FitConfig())
    text = markdown(sweeps_report([one]))
    low, high = one.estimate.exponent_interval
    assert one.estimate.exponent == pytest.approx(0.85, abs=0.05)  # what the spacing of learning rates does
    assert f"{one.estimate.exponent:.2f} [{low:.2f}, {high:.2f}]" in text
    assert "intervals of 90% over 6 seeds; p = " in text
    assert "Stationary: 7 of 8 learning rates, by seeds." in text
    rows = temperature_table(one).rows
    stationary = [row[7] for row in rows]
    assert stationary[1:] == ["yes"] * 7
    assert stationary[0].endswith(" more")
    assert [bool(re.fullmatch(r"\S+ \[\S+, \S+\]", row[3])) for row in rows] == [
        False,
        False,
        *[True] * 5,
        False,
    ]
    assert rows[0][3] == ""  # what drifts has no part in the fit
    assert [row[8] for row in rows] == ["drift", *["equilibrium"] * 7]
    assert "Learning rates of the fit: those in equilibrium, but for 1 that drifts." in text


def test_the_summary_has_regimes_baselines_and_the_published_law():
    laws = {"prefactor": 3.9e-3, "exponent": 0.85}
    one = setup(planted(), fit={}, published=laws, published_gradients={"prefactor": 10.0, "exponent": 0.78})
    text = markdown(sweeps_report([one]))
    assert "Published: T = 0.0039 · η^0.85." in text
    assert "Uniform on the sphere: U = 1, S = 0." in text
    assert "published: 10 · |G|^0.78." in text
    assert text.count("| chaos |") == 3
    assert text.count("| jump |") == 1


def test_the_summary_has_what_thermometers_show_and_where_they_cross():
    sweep = late_sweep(scatter=0.01)
    noise = 3e-3 * (sweep["lr"] / 0.01) ** 0.4 * 0.03 / 3e-3 * 0.01**0.85
    sweep["rms_noise_norm"] = (200 * noise / sweep["lr"]) ** 0.5 + 0 * sweep["loss"]
    one = setup(sweep, settings=("fit={}", "run.measurement.stationary=5"))
    text = markdown(sweeps_report([one]))
    assert "## made: thermometers" in text
    assert "| η | dU/dS | T of the noise |" in text
    found = one.thermometers
    assert float(found["crossing"]) == pytest.approx(0.01, rel=0.05)
    low, high = found["crossing_interval"].values
    assert low < float(found["crossing"]) < high < 1.3 * low
    assert f"rises above it at η = {float(found['crossing']):.3g} [{low:.3g}, {high:.3g}]" in text


def test_a_sweep_without_equilibrium_has_no_law_and_says_what_to_do():
    one = setup(planted().isel(lr=[0, 1, 3, 9]), fit={})
    text = markdown(sweeps_report([one]))
    assert "* law of T: **none** (no two neighboring learning rates are in equilibrium)" in text
    assert "Law of T: none, for no two neighboring learning rates are in equilibrium." in text
    assert "**T has no law: no two neighboring learning rates are in equilibrium.** Take more" in text
    assert "exponent" not in text.split("## ")[1]
    assert json.loads(sweeps_json([one]))["setups"][0]["estimate"]["exponent"] is None
