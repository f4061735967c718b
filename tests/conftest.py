import sys
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py, from tests in subfolders too

import backends
import emulation

from pythermo import _backends

settings.register_profile(
    "pythermo",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `kernels` is the same for all examples
)
settings.load_profile("pythermo")
torch.set_num_threads(1)  # small tensors: a second thread costs more than it gains


def pytest_collection_modifyitems(config, items):
    """Leave tests of CUDA devices out where there is none, saying so."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="did not run: torch finds no CUDA device")
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(skip)


@pytest.fixture(params=["cpu", "emulated", backends.CUDA])
def kernels(request, monkeypatch):
    """Let tensors of the CPU be worked on by each kind of kernels in turn; return its name.

    The emulation's schedule changes from test to test.
    """
    schedules = list(backends.SCHEDULES)
    schedule = schedules[zlib.crc32(request.node.nodeid.encode()) % len(schedules)]
    _let_work(request.param, schedule, monkeypatch)
    return request.param


@pytest.fixture(params=[*backends.SCHEDULES, backends.CUDA])
def cuda(request, monkeypatch):
    """Do so with CUDA's alone, in every schedule; return them, for the test to change their settings."""
    _let_work("cuda" if request.param == "cuda" else "emulated", request.param, monkeypatch)
    return _backends.BACKENDS["cpu"]


def _let_work(kind, schedule, monkeypatch):
    if kind == "emulated":
        emulation.module().set_schedule(backends.SCHEDULES[schedule])
        monkeypatch.setitem(_backends.BACKENDS, "cpu", backends.emulated())
    elif kind == "cuda":
        monkeypatch.setitem(_backends.BACKENDS, "cpu", backends.CopyingBackend())
