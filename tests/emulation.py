"""The CUDA kernels compiled for the CPU (tests/native/emulation), as a Python module."""

import fcntl
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pybind11
import pytest

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "emulation"


@functools.cache
def module() -> ModuleType:
    """Return the module, built anew where a source is newer; processes that test beside this one wait."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build()
    (path,) = BUILD.glob("tests/native/emulation/pythermo_emulated*.so")
    spec = importlib.util.spec_from_file_location("pythermo_emulated", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _build() -> None:
    _cmake(
        "-S", ROOT, "-B", BUILD, "-DPYTHERMO_CUDA=OFF", "-DPYTHERMO_EMULATION_MODULE=ON",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}",
    )  # fmt: skip
    _cmake("--build", BUILD, "--target", "pythermo_emulated", "--parallel")


def _cmake(*arguments: object) -> None:
    command = [str(Path(sys.executable).with_name("cmake")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # Or each test would try again.
        pytest.exit(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", returncode=1)
