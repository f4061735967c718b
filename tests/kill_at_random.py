"""SIGKILL at 100 random moments of a sweep: each time the same call goes on, to bit-equal results.

Run by hand, for it takes minutes; not a part of the suite: ``python tests/kill_at_random.py [KILLS] [SEED]``.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import xarray as xr
from tiny import TINY

import pythermo as pt

CONFIG = TINY.changed(**{"training.iterations": 3000, "measurement.count": 60, "measurement.window": 40})
RATES, SEEDS, CHECKPOINT_SECONDS = [0.01, 0.05], 2, 0.02
LATEST = 2.0  # seconds that a call goes on, at most, once its processes are at work


def sweep(folder: Path) -> xr.Dataset:
    return pt.sweep(CONFIG, RATES, folder, SEEDS, jobs=2, checkpoint_seconds=CHECKPOINT_SECONDS)


def killed(folder: Path, moment: float) -> bool:
    """Start the sweep, kill all its processes at a moment of their work, return whether it was in time."""
    before = changes(folder)
    call = [sys.executable, __file__, "--sweep", str(folder)]
    process = subprocess.Popen(call, start_new_session=True)
    while process.poll() is None and changes(folder) == before:
        time.sleep(0.005)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def changes(folder: Path) -> dict[str, int]:
    """Return when checkpoints and results of the runs were written."""
    found = {}
    for kind in ("checkpoint.pt", "measurements.nc"):
        for path in folder.glob(f"lr_*/{kind}"):
            try:
                found[str(path)] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return found


def main(wanted: int, seed: int) -> None:
    moments = random.Random(seed)
    kills = sweeps = 0
    with tempfile.TemporaryDirectory() as place:
        whole = sweep(Path(place) / "whole")
        while kills < wanted:
            folder = Path(place) / str(sweeps)
            while kills < wanted and killed(folder, moments.uniform(0.0, LATEST)):
                kills += 1
                print(f"{kills} kills", end="\r", flush=True)
            assert sweep(folder).identical(whole), f"after {kills} kills, seed {seed}: other results"
            assert pt.load_sweep(folder).identical(whole)
            left = sorted(path.name for path in folder.rglob("*") if path.suffix in (".pt", ".part"))
            assert left == ["weights-3000.pt"] * 4, left
            sweeps += 1
            print(f"{kills} kills, {sweeps} sweeps, all bit-equal to an uninterrupted one", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sweep"]:
        sweep(Path(sys.argv[2]))
    else:
        main(*(int(one) for one in [*sys.argv[1:], "100", "0"][:2]))
