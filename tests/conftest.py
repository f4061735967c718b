import sys
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

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
KERNELS = ["cpu", *(f"emulated {schedule}" for schedule in backends.SCHEDULES), CUDA]


def pytest_collection_modifyitems(config, items):
    """Leave tests of CUDA devices out where there is none, saying so."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="did not run: torch finds no CUDA device")
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(skip)


@pytest.fixture(params=KERNELS)
def kernels(request, monkeypatch):
    """Let tensors of the CPU be worked on by each kind of kernels in turn; return its name."""
    return _let_work(request.param, monkeypatch)


@pytest.fixture(params=["cpu", "emulated shuffled", CUDA])
def kinds_of_kernels(request, monkeypatch):
    """Do as `kernels`, in one schedule: for tests of many cases."""
    return _let_work(request.param, monkeypatch)


@pytest.fixture(params=KERNELS[1:])
def cuda(request, monkeypatch):
    """Do as `kernels` with those of CUDA alone; return them, for the test to change their settings."""
    _let_work(request.param, monkeypatch)
    return _backends.BACKENDS["cpu"]


def _let_work(kernels, monkeypatch):
    kind, *schedule = kernels.split()
    if kind == "emulated":
        emulation.module().set_schedule(backends.SCHEDULES[schedule[0]])
        monkeypatch.setitem(_backends.BACKENDS, "cpu", backends.emulated())
    elif kind == "cuda":
        monkeypatch.setitem(_backends.BACKENDS, "cpu", backends.CopyingBackend())
    return kind
