import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py, from tests in subfolders too

import backends

from pythermo.ops._backends import CUDA

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
    """Leave tests of CUDA devices out where there is none, saying so; thin out grids in the emulation."""
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="did not run: torch finds no CUDA device")
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(skip)
    left_out = set(_left_out_in_the_emulation(items))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _left_out_in_the_emulation(items):
    """Yield the cases of grids that are marked ``sampled(every)``, but for each ``every``-th."""
    cases = {}
    for item in items:
        if item.get_closest_marker("sampled") and item.callspec.params.get("kernels") == "emulated":
            cases.setdefault(item.function, []).append(item)
    for grid in cases.values():
        every = grid[0].get_closest_marker("sampled").args[0]
        yield from (item for place, item in enumerate(grid) if place % every != 0)


@pytest.fixture(params=["cpu", "emulated", backends.ON_DEVICE])
def kernels(request, monkeypatch):
    """Let tensors of the CPU be worked on by each kind of kernels in turn; return its name.

    The emulation's schedule changes from test to test.
    """
    schedules = list(backends.SCHEDULES)
    schedule = schedules[zlib.crc32(request.node.nodeid.encode()) % len(schedules)]
    if request.param == "emulated":
        backends.emulate(monkeypatch, schedule)
    elif request.param == "cuda":
        backends.use_device(monkeypatch)
    return request.param


@pytest.fixture(params=[*backends.SCHEDULES, backends.ON_DEVICE])
def cuda(request, monkeypatch):
    """Do so with CUDA's alone, in every schedule; return how they are launched, for the test to change."""
    if request.param == "cuda":
        backends.use_device(monkeypatch)
    else:
        backends.emulate(monkeypatch, request.param)
    return CUDA


@pytest.fixture
def emulated(monkeypatch):
    """Do so with the emulation alone; return how it is launched."""
    backends.emulate(monkeypatch)
    return CUDA


@pytest.fixture
def on_cpu(monkeypatch):
    """Return a function that calls another one with the CPU's kernels."""

    def run(function, *arguments):
        with backends.cpu(monkeypatch):
            return function(*arguments)

    return run


@pytest.fixture
def one_figure(monkeypatch):
    """Let the results of sweeps have one figure instead of eleven: to draw them takes longer than tiny runs."""
    from pythermo import figures
    from pythermo.studies import results

    monkeypatch.setattr(
        results,
        "_gas_figures",
        lambda setups: {"gas_states": figures.gas_states({one.title: one.gas for one in setups})},
    )
    monkeypatch.setattr(
        results,
        "_figures",
        lambda setups: {"drifts": figures.drifts({one.title: one.analysis.stationarity for one in setups})},
    )


@pytest.fixture
def one_worker():
    """An executor in this process: spawning one takes longer than the runs."""
    with ThreadPoolExecutor(1) as executor:
        yield executor
