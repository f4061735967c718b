"""Install a wheel into a fresh environment without a compiler, and use it there: `python check_wheel.py dist`."""

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
# One OpenMP runtime, whichever comes first: two would fight for the cores.
ONE_RUNTIME = """
import {first}
import {second}
import pythermo, torch
pythermo.ops.knn_distances(torch.randn(100, 50), 3)
torch.randn(500, 500) @ torch.randn(500, 500)
found = {{line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}}
assert len(found) == 1, found
print("{first} first: one OpenMP runtime,", *found)
"""
NO_COMPILER = """
import shutil
found = [name for name in ("cc", "gcc", "g++", "c++", "clang", "nvcc", "cmake", "ninja") if shutil.which(name)]
assert not found, found
"""


def main(dist: Path) -> None:
    """Check the only wheel of a folder, and say its size and what its installation took."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    assert "manylinux" in wheel.name, wheel.name
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / "bin" / "python"
        alone = {"PATH": str(python.parent), "HOME": folder, "LANG": "C.UTF-8"}
        alone |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

        def run(*command: str | Path) -> None:
            subprocess.run([str(part) for part in command], check=True, env=alone, cwd=home)

        run(python, "-c", NO_COMPILER)
        pip = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            "-c",
            ROOT / "constraints.txt",
        ]
        run(*pip, "torch")
        run(*pip, wheel)
        began = time.monotonic()
        run(*pip, "--force-reinstall", "--no-deps", wheel)
        seconds = time.monotonic() - began
        for first, second in (("pythermo._core", "torch"), ("torch", "pythermo._core")):
            run(python, "-c", ONE_RUNTIME.format(first=first, second=second))
        pythermo = python.with_name("pythermo")
        run(pythermo, "info")
        settings = [
            "run.training.iterations=200",
            "run.measurement.window=60",
            "run.measurement.stride=1",
            "seeds=2",
        ]
        keys = [part for setting in settings for part in ("--set", setting)]
        run(pythermo, "sweep", "digits-quick", *keys, "--out", home / "out", "--jobs", "1")
        assert (home / "out" / "report.html").stat().st_size > 1e6
    print(
        f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB"
    )
    print(f"installed in {seconds:.1f} s where its dependencies are there")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
