"""What befalls a sweep: Ctrl-C, a full disk, a second process on one run, fewer or more GPUs."""

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import pytest
import torch

import pythermo as pt
from pythermo.config.preset import Preset
from pythermo.ops import _devices
from pythermo.ops._devices import default_jobs, devices_to_share
from pythermo.sweeps import files
from pythermo.sweeps import run as run_module
from pythermo.sweeps.run import MEASUREMENTS
from pythermo.sweeps.workers import Processes

PRESET = """
description = "a sweep that takes some seconds"
grid = [{ start = -3.0, stop = -1.0, count = 3 }]
[run]
model = { name = "ConvNet", width = 2 }
data = { name = "digits", samples_per_class = 10 }
training = { iterations = 400, batch_size = 16 }
measurement = { count = 6, stationary = 2, window = 60, gradients = 2 }
"""

SHORT = "run.training.iterations=100"


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "preset.toml"
    path.write_text(PRESET)
    return path


def command(preset, out):
    return [sys.executable, "-m", "pythermo", "sweep", str(preset), "--out", str(out), "--jobs", "2"]


def sweep_here(preset, folder, *settings):
    loaded = Preset.load(preset, settings)
    with ThreadPoolExecutor(1) as executor:
        return pt.sweep(loaded.run, loaded.learning_rates, folder, executor=executor)


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_sweep_leaves_no_process_and_goes_on(tmp_path, preset, number, code):
    out = tmp_path / "there"
    with subprocess.Popen(
        command(preset, out), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: list(out.glob("lr_*/config.toml")))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.kill()
        written = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in written
    assert ("the same command takes the work up again" in written) == (number == signal.SIGINT)
    wait_for(lambda: not is_there(process.pid), seconds=20)
    assert len(list(out.glob(f"lr_*/{MEASUREMENTS}"))) < 3
    subprocess.run(command(preset, out), check=True, capture_output=True)
    assert pt.load_sweep(out).identical(sweep_here(preset, tmp_path / "here"))


def test_processes_end_at_once_where_the_block_is_left_by_an_exception():
    begun = time.monotonic()
    futures = []
    with suppress(KeyboardInterrupt), Processes(1) as processes:
        futures += [processes.submit(time.sleep, 600) for _ in range(3)]
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 100
    assert all(one.cancelled() or isinstance(one.exception(), BrokenProcessPool) for one in futures)


def test_each_process_sees_a_device_of_its_own():
    with Processes(3, ["4", "GPU-b"]) as processes:
        seen = [processes.submit(os.getenv, "CUDA_VISIBLE_DEVICES") for _ in range(3)]
        assert sorted(one.result() for one in seen) == ["4", "4", "GPU-b"]


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", None, ["0", "1", "2"]),
        ("cuda", "5,GPU-a,7", ["5", "GPU-a", "7"]),
        ("cuda:1", None, []),
        ("cpu", None, []),
    ],
)
def test_runs_are_laid_over_the_devices_that_this_process_sees(monkeypatch, device, visible, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(_devices, "usable_cores", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices_to_share(device) == expected
    assert default_jobs(device) == {"cpu": 16, "cuda": 3, "cuda:1": 1}[device]


# Runs one run in its folder and says so.
RUN = """
import sys
import pythermo as pt
config = pt.RunConfig.from_toml(open(sys.argv[1]).read())
pt.run(config, sys.argv[2], report=lambda *_: None)
"""


def test_a_second_process_waits_and_does_not_compute(tmp_path, preset):
    config = Preset.load(preset, [SHORT]).run.changed(lr=0.01)
    (tmp_path / "config.toml").write_text(config.to_toml())
    (tmp_path / "run.py").write_text(RUN)
    arguments = [
        sys.executable,
        str(tmp_path / "run.py"),
        str(tmp_path / "config.toml"),
        str(tmp_path / "run"),
    ]
    with files.exclusive(tmp_path / "run"):
        second = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        said = second.stderr.readline()
        assert names_in(tmp_path / "run") == [files.LOCK]  # it has written nothing
        assert second.poll() is None
    assert f"waiting for process {os.getpid()} on " in said
    assert second.communicate(timeout=120)[1] == ""
    assert second.returncode == 0
    assert names_in(tmp_path / "run") == [files.LOCK, "config.toml", MEASUREMENTS, "weights-100.pt"]


def test_a_lock_goes_with_its_killed_holder(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from pythermo.sweeps import files\n"
        f"with files.exclusive(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with files.exclusive(tmp_path):
        pass


@pytest.mark.parametrize("limit", [8_000, 250_000], ids=["at once", "in the middle"])
def test_a_full_disk_is_named_and_the_same_call_goes_on(tmp_path, preset, limit, monkeypatch):
    monkeypatch.setattr(run_module, "_STEPPING_PER_CHECKPOINT", 0.0)  # at each iteration, on any disk
    out = tmp_path / "there"
    loaded = Preset.load(preset, [SHORT])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, hard)
    )  # a file that grows beyond fails as on a full disk
    try:
        named = r"could not be written: (.|\n)*checkpoint\.pt"
        with pytest.raises(pt.SweepError, match=named), ThreadPoolExecutor(1) as one:
            pt.sweep(loaded.run, loaded.learning_rates, out, executor=one, checkpoint_seconds=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [name for name in names_in(out) if name.endswith(".part")]
    assert MEASUREMENTS not in names_in(out)
    with ThreadPoolExecutor(1) as one:
        there = pt.sweep(loaded.run, loaded.learning_rates, out, executor=one)
    assert there.identical(sweep_here(preset, tmp_path / "here", SHORT))


@pytest.mark.parametrize("name", ["config.toml", MEASUREMENTS])
def test_no_file_is_half_written_when_the_disk_is_full(tmp_path, preset, monkeypatch, name):
    fsync = os.fsync

    def full_disk(descriptor):
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    config = Preset.load(preset, [SHORT]).run.changed(lr=0.01)
    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match=rf"No space left on device.*{name}"):
        pt.run(config, tmp_path / "run", report=lambda *_: None)
    assert name not in names_in(tmp_path / "run")
    assert not [one for one in names_in(tmp_path / "run") if one.endswith(".part")]
    monkeypatch.undo()
    there = pt.run(config, tmp_path / "run", report=lambda *_: None)
    assert there.identical(pt.run(config, report=lambda *_: None))


def test_a_folder_of_another_preset_is_refused_by_the_command(tmp_path, preset):
    sweep_here(preset, tmp_path / "out", SHORT)
    other = subprocess.run(
        [*command(preset, tmp_path / "out"), "--set", SHORT, "--set", "run.data.seed=5"],
        capture_output=True,
        text=True,
    )
    assert other.returncode == 1
    assert "data.seed: 1 there, 5 here" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_grid_with_a_repeated_learning_rate_is_refused(tmp_path, preset):
    preset.write_text(PRESET.replace("]\n[run]", ", { start = -2.0, stop = -2.0, count = 1 }]\n[run]"))
    with pytest.raises(ValueError, match="grid: a learning rate repeats"):
        Preset.load(preset)
