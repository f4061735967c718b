"""The page of a folder, whatever is in it: finished sweeps, running ones, wrecks."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import pythermo as pt
from pythermo.cli import app
from pythermo.studies import report as pages
from pythermo.sweeps import files
from pythermo.sweeps import run as runs
from pythermo.sweeps.setups import read_setups, read_so_far

SHORT = pt.RunConfig.from_toml("""
[model]
name = "ConvNet"
width = 2
[data]
name = "digits"
samples_per_class = 15
[training]
iterations = 90
batch_size = 16
engine = "lanes"
[measurement]
count = 12
late = 8
window = 52
gradients = 2
stationary = 3
""")
LRS, SEEDS = [0.01, 0.03, 0.1], 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep made from Python, without a preset."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    pt.sweep(SHORT, LRS, folder, SEEDS, jobs=1)
    return folder


@pytest.fixture
def stopped(finished, tmp_path):
    """The same as it is on the way: two runs finished, two underway, one that failed, one not begun."""
    for path in finished.rglob("*"):
        target = tmp_path / "mine" / path.relative_to(finished)
        if path.is_file() and path.name not in ("sweep.nc", ".lock"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    folders = sorted((tmp_path / "mine").glob("lr_*"))
    for length, one in zip((15, 17), folders[2:4], strict=True):
        xr.load_dataset(one / "measurements.nc").isel(iteration=slice(0, length)).to_netcdf(one / "so_far.nc")
        (one / "progress.txt").write_text("60 1.5")
    for one in folders[2:]:
        (one / "measurements.nc").unlink()
    (folders[4] / "error.log").write_text("Traceback\nValueError: <script>alert(1)</script>\n")
    return tmp_path / "mine"


def text_of(page):
    return page.read_text(encoding="utf-8").rpartition("</script>\n</head>")[2]


def test_a_finished_sweep_without_a_preset_has_its_page(finished):
    page = pt.report(finished)
    assert page == finished / "report.html"
    text = text_of(page)
    assert "3 learning rates from 0.01 to 0.1, 2 seeds each" in text
    assert "2 seeds: intervals are wide" in text
    assert "runs are finished" not in text
    (one,), waiting = read_so_far(finished)
    assert waiting == []
    assert one.progress.complete
    xr.testing.assert_identical(one.dataset, pt.load_sweep(finished))


def test_what_runs_have_measured_so_far_is_shown(stopped):
    (one,), _ = read_so_far(stopped)
    assert (one.progress.finished, one.progress.members) == (2, 6)
    assert one.progress.iterations == 2 * 90 + 2 * 60
    assert one.progress.failures == ("lr 0.1, seed 0: ValueError: <script>alert(1)</script>",)
    known = one.dataset["loss"].notnull().sum("iteration")
    assert known.values.tolist() == [[29, 29], [15, 17], [0, 0]]
    text = text_of(pt.report(stopped))
    assert "2 of 6 runs are finished, 56% of all iterations done." in text
    assert "1 run failed: lr 0.1, seed 0: ValueError: &lt;script&gt;alert(1)&lt;/script&gt;." in text
    assert "<script>alert" not in text


def test_before_any_run_is_finished_all_end_at_the_same_iteration(stopped):
    for path in sorted(stopped.glob("*/measurements.nc")):
        path.rename(path.parent / "so_far.nc")
    (one,), _ = read_so_far(stopped)
    assert one.dataset.sizes["iteration"] == 15
    assert one.progress.finished == 0
    assert "0 of 6 runs are finished" in text_of(pt.report(stopped))


def test_a_checkpoint_leaves_what_was_measured_until_the_run_is_finished(tmp_path, monkeypatch):
    seen = []
    write = runs.Task.write_checkpoint

    def look(task):
        write(task)
        if (task.folder / "so_far.nc").exists():
            seen.append(xr.load_dataset(task.folder / "so_far.nc")["loss"].values)

    monkeypatch.setattr(runs.Task, "write_checkpoint", look)
    monkeypatch.setattr(runs, "_STEPPING_PER_CHECKPOINT", 0.0)
    result = pt.run(
        SHORT.changed(**{"training.engine": "torch", "training.iterations": 60}),
        tmp_path / "run",
        checkpoint_seconds=0.0,
    )
    assert len(seen) > 10
    assert len(seen[-1]) >= 10
    np.testing.assert_array_equal(seen[-1], result["loss"].values[: len(seen[-1])])
    assert not (tmp_path / "run" / "so_far.nc").exists()


@pytest.mark.parametrize("rates", [[0.03], [0.03, 0.1]])
def test_one_member_and_two(tmp_path, one_worker, rates):
    pt.sweep(SHORT, rates, tmp_path, executor=one_worker)
    text = text_of(pt.report(tmp_path))
    assert "One seed: nothing is known of the error of T." in text
    assert "Along the runs" in text
    energy = pt.load_sweep(tmp_path)["loss"].isel(iteration=slice(-3, None), lr=0, seed=0).mean()
    assert (f"<dt>U</dt><dd>{float(energy):.4g} ±" in text) == (len(rates) == 1)


def test_nothing_but_nan(stopped):
    for path in stopped.glob("*/measurements.nc"):
        found = xr.load_dataset(path)
        path.unlink()
        found.where(False).assign_attrs(found.attrs).to_netcdf(path)
    text = text_of(pt.report(stopped))
    assert "not known" in text.lower()


def test_a_sweep_of_which_nothing_is_measured_yet(stopped, tmp_path):
    for path in [*stopped.glob("*/measurements.nc"), *stopped.glob("*/so_far.nc")]:
        path.unlink()
    text = text_of(pt.report(stopped))
    assert "Nothing has been measured yet" in text
    folder = tmp_path / "planned"
    folder.mkdir()
    (folder / "config.toml").write_text((stopped / "config.toml").read_text())
    assert "Nothing has been measured yet" in text_of(pt.report(folder))


def test_folders_without_a_sweep_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        pt.report(tmp_path)
    with pytest.raises(TypeError, match="out: must be a path"):
        pt.report(3)
    result = CliRunner().invoke(app, ["open", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no sweep" in result.output


def test_only_finished_sweeps_are_analyzed(finished, stopped, one_figure):
    (one,) = read_setups(finished)
    assert one.baseline is None
    with pytest.raises(FileNotFoundError, match=r"lacks 4 of its 6 runs, such as lr 0\.03, seed 0"):
        read_setups(stopped)
    result = CliRunner().invoke(app, ["analyze", str(finished)])
    assert result.exit_code == 0, result.output
    assert (finished / "drifts.png").exists()


def test_a_run_that_ends_while_it_is_read_is_left_for_the_next_time(stopped, monkeypatch):
    read = files.read_dataset

    def ended(path, remedy="", **others):
        if path.name == "so_far.nc":
            path.unlink()
        return read(path, remedy, **others)

    monkeypatch.setattr(files, "read_dataset", ended)
    (one,), _ = read_so_far(stopped)
    assert one.progress.finished == 2
    assert one.dataset["loss"].notnull().any("iteration").values.sum() == 2


def test_watching_ends_with_the_sweep(stopped, finished, monkeypatch):
    said = []

    def work(seconds):
        assert 'http-equiv="refresh" content="3"' in (stopped / "report.html").read_text()[:2000]
        for run in finished.glob("lr_*"):
            (stopped / run.name / "measurements.nc").write_bytes((run / "measurements.nc").read_bytes())

    monkeypatch.setattr(pages.time, "sleep", work)
    page = pages.watch(stopped, 3, said.append)
    assert said == [f"{page}: 2 of 6 runs finished"]
    assert 'http-equiv="refresh"' not in page.read_text()[:2000]
    assert "runs are finished" not in text_of(page)
    result = CliRunner().invoke(app, ["watch", str(finished)])
    assert result.output == f"wrote {finished / 'report.html'}\n"


def test_open_writes_the_page_and_says_where_it_is_without_a_browser(finished, monkeypatch):
    (finished / "report.html").unlink(missing_ok=True)
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or True)
    assert CliRunner().invoke(app, ["open", str(finished)]).exit_code == 0
    assert opened == [(finished / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda page: False)
    result = CliRunner().invoke(app, ["open", str(finished)])
    assert result.exit_code == 1
    assert f"no browser was found; open {finished / 'report.html'} in one by hand" in result.output
