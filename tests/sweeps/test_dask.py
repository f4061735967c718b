import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from tiny import TINY

import pythermo as pt
from pythermo.sweeps import executors, files
from pythermo.sweeps.executors import executor_of
from pythermo.sweeps.run import CHECKPOINT, MEASUREMENTS

LONG = TINY.changed(**{"training.iterations": 500})
RATES = [0.001, 0.01, 0.05]

# dask's client warns of sockets of a scheduler that was killed when Python collects them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Cluster:
    """A scheduler on a port of its own and workers of one thread, as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler, self.workers = None, []

    def start_scheduler(self):
        options = ["--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard", "--no-jupyter"]
        self.scheduler = self._start("scheduler", *options)

    def start_worker(self):
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        options += ["--local-directory", str(self._folder / "scratch")]
        self.workers.append(self._start("worker", self.address, *options))

    def end(self):
        for process in (*self.workers, self.scheduler):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def _start(self, kind, *arguments):
        with (self._folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *arguments], stdout=log, stderr=log, cwd=self._folder
            )


@contextmanager
def cluster_of(folder, workers):
    cluster = Cluster(folder)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        cluster.end()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def sweep_here(config, folder):
    with ThreadPoolExecutor(1) as executor:
        return pt.sweep(config, RATES, folder, executor=executor)


def sweep_there(config, folder, address):
    with executor_of(f"dask={address}") as executor:
        return pt.sweep(config, RATES, folder, executor=executor, checkpoint_seconds=0.1)


def running(folder):
    """Return the process ids of the runs that have a checkpoint and are not finished."""
    held = [path.parent for path in folder.glob(f"lr_*/{CHECKPOINT}")]
    notes = [(one / files.LOCK).read_text() for one in held if not (one / MEASUREMENTS).exists()]
    return [int(re.match(r"process (\d+) on ", note)[1]) for note in notes]


def test_workers_of_dask_give_what_processes_give(tmp_path):
    with cluster_of(tmp_path, workers=1) as cluster:
        there = sweep_there(TINY, tmp_path / "there", cluster.address)
    assert there.identical(sweep_here(TINY, tmp_path / "here"))


@pytest.mark.slow
def test_a_killed_workers_run_goes_on_elsewhere(tmp_path):
    out = tmp_path / "there"
    with cluster_of(tmp_path, workers=2) as cluster:
        killed = []

        def kill_one():
            wait_for(lambda: running(out))
            killed.append(running(out)[0])
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        there = sweep_there(LONG, out, cluster.address)
        killer.join()
        ended = [worker.pid for worker in cluster.workers if worker.poll() is not None]
    assert ended == killed
    assert len(killed) == 1
    assert there.identical(sweep_here(LONG, tmp_path / "here"))


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_sweep_and_the_same_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 5)
    out = tmp_path / "there"
    with cluster_of(tmp_path, workers=1) as cluster:

        def kill_scheduler():
            wait_for(lambda: list(out.glob(f"lr_*/{MEASUREMENTS}")) and running(out))
            cluster.scheduler.kill()

        killer = threading.Thread(target=kill_scheduler)
        killer.start()
        with pytest.raises(pt.SweepError, match=r"given up by the executor(.|\n)*same call goes on") as error:
            sweep_there(LONG, out, cluster.address)
        killer.join()
    finished = list(out.glob(f"lr_*/{MEASUREMENTS}"))
    assert 0 < len(finished) < len(RATES)
    unfinished = [
        member for lr in RATES if out / (member := pt.Member(lr, 0)).folder / MEASUREMENTS not in finished
    ]
    assert set(unfinished) <= set(error.value.failures)
    written = {path: path.stat().st_mtime_ns for path in finished}
    with cluster_of(tmp_path, workers=1) as cluster:
        there = sweep_there(LONG, out, cluster.address)
    assert {path: path.stat().st_mtime_ns for path in finished} == written
    assert there.identical(sweep_here(LONG, tmp_path / "here"))


def test_nobody_at_the_address_is_said_soon(monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 1)
    with pytest.raises(ConnectionError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 within 1 s"):
        sweep_there(TINY, "unused", "tcp://127.0.0.1:9")


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r'pip install "pythermo\[dask\]"'):
        sweep_there(TINY, "unused", "tcp://127.0.0.1:9")


@pytest.mark.parametrize("name", ["dask", "dask=", "slurm=here"])
def test_unknown_executors_are_refused(name):
    with pytest.raises(ValueError, match="executor: must be dask=ADDRESS"), executor_of(name):
        pass
