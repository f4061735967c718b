"""What is around a process: no stderr, few cores, a style of figures, a fork, a script without a main guard."""

import io
import multiprocessing
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from made import made_sweep
from tiny import TINY

import pythermo as pt
from pythermo import figures
from pythermo._progress import ProgressBar
from pythermo.ops._devices import usable_cores

RUN = """
import sys
import pythermo as pt
config = pt.RunConfig.from_toml(sys.argv[1])
pt.run(config, sys.argv[2])
print("done")
"""


def shell(line, *arguments, **more):
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", sys.executable, *arguments],
        capture_output=True, text=True, timeout=300, check=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_run_without_stderr(tmp_path, closed):
    done = shell(f'"$1" -c "$2" "$3" "$4" {closed}', RUN, TINY.to_toml(), str(tmp_path / "run"))
    assert done.stdout == "done\n"
    assert pt.run(TINY, tmp_path / "run").identical(pt.run(TINY, report=lambda *_: None))


class Failing(io.StringIO):
    def isatty(self):
        return True

    def write(self, _):
        raise OSError("closed")


@pytest.mark.parametrize("stderr", [None, Failing()])
def test_a_progress_bar_ends_nothing(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    with ProgressBar(10) as bar:
        bar.describe("a run")
        bar.note("U 1")
        bar.update_to(7)
        bar.update(1)
        bar.reset()


def test_a_progress_bar_on_a_terminal_is_drawn(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar(10, mininterval=0) as bar:
        bar.describe("a run")
        bar.update_to(7)
    assert "a run:  70%" in terminal.getvalue()


def test_who_reads_the_output_may_leave():
    done = shell('"$1" -m pythermo presets | true')
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def groups(tmp_path, own, files):
    (tmp_path / "cgroup").write_text(own)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(tmp_path, tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("own", "written", "cores"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 1"}, 2),
        ("0::/a\n", {"a/cpu.max": "10000 100000"}, 1),
        ("0::/../not/here\n", {"cpu.max": "300000 100000\n"}, 3),
        ("4:cpu,cpuacct:/docker/x\n2:memory:/\n",
         {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 16),
        ("0::/\n", {"cpu.max": "garbage"}, 16),
    ],
)  # fmt: skip
def test_quotas_of_cgroups_count(tmp_path, monkeypatch, own, written, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert groups(tmp_path, own, written) == cores


def test_affinity_counts():
    code = "from pythermo.ops._devices import default_jobs; print(default_jobs('cpu'))"
    assert shell('taskset -c 0 "$1" -c "$2"', code).stdout == "1\n"


def test_figures_in_a_style_of_the_user(tmp_path):
    """LaTeX is not on this machine: text that asked for it could not be drawn."""
    analysis = pt.analyze(made_sweep(), last=3)
    plain = figures.save(figures.stationary_values({"made": analysis}), tmp_path / "plain")
    with mpl.rc_context({"text.usetex": True, "font.family": "nonsense", "lines.linewidth": 9.0}):
        before = dict(mpl.rcParams)
        styled = figures.save(figures.stationary_values({"made": analysis}), tmp_path / "styled")
        assert dict(mpl.rcParams) == before
    assert plain[0].read_bytes() == styled[0].read_bytes()


def test_a_backend_that_is_none():
    code = "import os, pythermo.figures; print(os.environ['MPLBACKEND'])"
    done = shell('"$1" -c "$2"', code, env={**os.environ, "MPLBACKEND": "nonsense"})
    assert done.stdout == "nonsense\n", done.stderr


UNGUARDED = """
import sys
import pythermo as pt
config = pt.RunConfig.from_toml(open(sys.argv[1]).read())
pt.sweep(config, [0.01, 0.02, 0.03], sys.argv[2], jobs=2)
"""


def test_a_script_without_a_main_guard(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    (tmp_path / "config.toml").write_text(TINY.to_toml())
    done = shell('"$1" "$2" "$3" "$4"', *(str(tmp_path / one) for one in ("script.py", "config.toml", "out")))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert 'Error: put the call under `if __name__ == "__main__":`' in last
    assert done.stderr.count("Traceback") == 1


def _in_child(points, queue):
    queue.put((torch.get_num_threads(), pt.ops.knn_distances(points, 3)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kernels_after_a_fork():
    """The child of a parent whose OpenMP has threads: it would wait for them for ever."""
    points = np.random.default_rng(0).standard_normal((300, 5))
    torch.set_num_threads(4)
    try:
        expected = pt.ops.knn_distances(points, 3)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(points, queue))
        child.start()
        child.join(60)
        hangs = child.is_alive()
        child.kill()
        assert not hangs
        threads, found = queue.get()
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)
    assert threads == 1
    np.testing.assert_array_equal(found, expected)
