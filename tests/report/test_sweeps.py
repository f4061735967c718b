from made import made_sweep, planted, setup

from pythermo.config.preset import FitConfig
from pythermo.report.markdown import markdown, markdown_table
from pythermo.report.sections import Report, Section, Table
from pythermo.report.sweeps import sweeps_report


def test_markdown():
    table = Table(["a", "b"], [["1", "2"]])
    text = markdown(Report("Title", [Section(paragraphs=["One.", "Two."]), Section("Three", [], table)]))
    assert text == "# Title\n\nOne.\n\nTwo.\n\n## Three\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert markdown_table(table) in text


def test_the_summary_has_the_power_law_and_a_row_per_learning_rate():
    up, op = (setup(made_sweep(), title, fit=FitConfig(last=6)) for title in ("UP", "OP"))
    text = markdown(sweeps_report([up, op]))
    assert text.count("Power law: T = (") == 2
    assert text.count("| 0.001 |") == 2
    assert text.count("outside the fit") == 2
    assert text.count("Full gradient of the SNR: mean") == 2
    assert f"η^({up.analysis.fit.exponent:.2f}" in text
    assert "Seeds" not in text


def test_the_summary_has_regimes_baselines_and_the_published_law():
    laws = {"prefactor": 3.9e-3, "exponent": 0.85}
    one = setup(planted(), fit={}, published=laws, published_gradients={"prefactor": 10.0, "exponent": 0.78})
    text = markdown(sweeps_report([one]))
    assert "Published: T = 0.0039 · η^0.85." in text
    assert "Uniform on the sphere: U = 1, S = 0." in text
    assert "published: 10 · |G|^0.78." in text
    assert text.count("| chaos |") == 3
    assert text.count("| jump |") == 1
