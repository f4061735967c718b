"""Pages in a browser: drawn, silent, without a network, and moved by the mouse."""

import numpy as np
import pytest
from made import late_sweep, planted, setup

from pythermo.reports.html import anchor, html, sort_key
from pythermo.reports.plots.temperature import free_energy_plot
from pythermo.reports.sections import Advice, Fact, Picture, Report, Section, Table
from pythermo.reports.sweeps import sweeps_report

HOSTILE = "</script><script>document.title = 'taken'</script> & <b>\"bold\"'"


@pytest.fixture(scope="module")
def setups():
    return [setup(late_sweep([0], scatter=0.03), "seeds", fit={}), setup(planted(), HOSTILE, fit={})]


@pytest.fixture(scope="module")
def page(setups, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(sweeps_report(setups)), encoding="utf-8")
    return path


def test_a_page_is_drawn_and_asks_for_nothing(page, opened):
    assert page.stat().st_size < 6e6
    shown = opened(page)
    assert shown.said == []
    assert shown.requests == [page.as_uri()]
    assert shown.plots().count() > 20
    assert shown.value("document.title") == "Thermodynamics of SGD"
    untitled = shown.value(
        "[...document.querySelectorAll('.plotly-graph-div')].filter(one => one.data.length && "
        "!(one.layout.xaxis.title.text && one.layout.yaxis.title.text)).length"
    )
    assert untitled == 0
    drawn = shown.value("[...document.querySelectorAll('.plotly-graph-div .points path')].length")
    assert drawn > 100
    assert shown.page.locator("h2").all_inner_texts()[1] == HOSTILE


def test_the_mouse_shows_members(page, opened):
    shown = opened(page)
    plot = shown.page.locator("#stationary-states .plotly-graph-div").first
    plot.scroll_into_view_if_needed()
    place = shown.value(
        """plot => { const at = plot.querySelector('.scatterlayer .trace:nth-child(2) .points path')
             .getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; }""",
        plot.element_handle(),
    )
    shown.page.mouse.move(*place)
    hover = plot.locator(".hoverlayer .hovertext")
    hover.first.wait_for()
    assert "U = " in hover.first.text_content()


def test_the_slider_moves_the_minimum_of_the_free_energy(page, opened, setups):
    shown = opened(page)
    plot = shown.page.locator(".plotly-graph-div", has=shown.page.locator(".slider-container")).first
    plot.scroll_into_view_if_needed()
    lrs = setups[0].estimate.lr
    minimum = "plot => Number(plot.data[1].x[0])"
    before = shown.value(minimum, plot.element_handle())
    rail = plot.locator(".slider-rail-touch-rect").bounding_box()
    shown.page.mouse.click(rail["x"] + 2, rail["y"] + rail["height"] / 2)
    shown.page.wait_for_function("plot => Number(plot.data[1].x[0]) < 0.0021", arg=plot.element_handle())
    assert before == pytest.approx(lrs[len(lrs) // 2], rel=2.0)
    assert shown.value(minimum, plot.element_handle()) == pytest.approx(lrs[0])


def test_each_place_of_the_slider_has_its_free_energy(setups):
    figure, estimate = free_energy_plot(setups[0]), setups[0].estimate
    (slider,) = figure.layout.sliders
    for step in slider.steps:
        changed = step.args[0]
        f = estimate.energy - float(step.label) * estimate.entropy
        scale = np.abs(f).max()
        # The label has three digits of T, and S is a thousand nats.
        np.testing.assert_allclose(np.asarray(changed["y"][0]), f - f.min(), atol=5e-3 * scale)


def test_the_legend_switches_learning_rates(page, opened):
    shown = opened(page)
    plot = shown.page.locator("#along-the-runs .plotly-graph-div").first
    plot.scroll_into_view_if_needed()
    lines = plot.locator(".scatterlayer .trace")
    count = lines.count()
    plot.locator(".legendtoggle").first.click()
    shown.page.wait_for_function(
        "([plot, count]) => plot.querySelectorAll('.scatterlayer .trace').length < count",
        arg=[plot.element_handle(), count],
    )
    assert shown.value("plot => plot.data[0].visible", plot.element_handle()) == "legendonly"


def test_tables_are_sorted_by_their_numbers(page, opened):
    shown = opened(page)
    table = shown.page.locator("#seeds-values table")
    table.scroll_into_view_if_needed()
    table.locator("th", has_text="U").first.click()
    column = "table => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent))"
    shown.page.wait_for_function("table => table.querySelector('th[aria-sort]')", arg=table.element_handle())
    shown.page.wait_for_timeout(100)
    up = shown.value(column, table.element_handle())
    assert up == sorted(up)
    table.locator("th", has_text="U").first.click()
    shown.page.wait_for_timeout(100)
    down = shown.value(column, table.element_handle())
    assert down == sorted(up, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_a_telephone_by_day_and_night(page, opened, scheme):
    shown = opened(page, width=400, scheme=scheme)
    assert shown.value("document.documentElement.scrollWidth") == 400
    ink, paper = (
        sum(map(int, shown.value(f"getComputedStyle(document.body).{name}")[4:-1].split(",")))
        for name in ("color", "backgroundColor")
    )
    assert (ink < 200 < 600 < paper) if scheme == "light" else (paper < 200 < 600 < ink)
    of_axis = shown.page.locator(".xtick text").first
    fill = shown.value("one => getComputedStyle(one).fill", of_axis.element_handle())
    assert fill == shown.value("getComputedStyle(document.body).color")


def test_print_is_black_on_white_and_has_what_is_folded(page, opened, tmp_path):
    shown = opened(page, scheme="dark")
    shown.value("dispatchEvent(new Event('beforeprint'))")
    assert shown.value("[...document.querySelectorAll('details')].every(one => one.open)")
    shown.page.emulate_media(media="print")
    assert shown.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    shown.page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000


def test_a_page_of_every_kind_of_section(tmp_path, opened):
    one = Section(
        "All <of> it",
        ["First & last."],
        Table(["a"], [["10"], ["9"]]),
        [Fact("T", "1 < 2", "note")],
        [Advice("Careful.", "Do <this>.")],
        pictures=[Picture("a pixel", PIXEL)],
        code="<x>",
    )
    path = tmp_path / "page.html"
    path.write_text(
        html(Report(HOSTILE, [one, Section("more", folded=True, code="folded")])), encoding="utf-8"
    )
    shown = opened(path)
    assert shown.value("document.title") == HOSTILE
    assert shown.said == []
    text = shown.page.locator("main").inner_text()
    for words in ("All <of> it", "First & last.", "1 < 2", "Do <this>.", "<x>", "a pixel"):
        assert words in text
    assert not shown.page.locator("details pre").is_visible()
    assert shown.value("document.querySelector('.picture img').naturalWidth") == 1


def test_a_page_that_is_written_again_reads_itself_anew():
    assert 'http-equiv="refresh" content="7"' in html(Report("now", []), seconds=7)
    assert 'http-equiv="refresh"' not in html(Report("done", []))


def test_anchors_and_keys():
    assert anchor("ConvNet(2), D = 1530: values") == "convnet-2-d-1530-values"
    assert anchor("η") == "section"
    assert [sort_key(cell) for cell in ("1.46e-04 [1, 2]", "-3.5 ± 1", "chaos", "", "6.2e+04 more")] == [
        "1.46e-04", "-3.5", "chaos", "", "6.2e+04",
    ]  # fmt: skip


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060f80f000104010"
    "05fe5c3090000000049454e44ae426082"
)
