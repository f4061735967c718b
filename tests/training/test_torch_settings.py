"""A run depends on its configuration alone, and its caller finds everything again."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY

import pythermo as pt
from pythermo.sweeps.baseline import uniform_baseline
from pythermo.training.network import build_network
from pythermo.training.torch_settings import own_settings
from pythermo.training.trainer import Trainer


def quiet(*_):
    pass


@contextmanager
def written(write, value, before):
    write(value)
    try:
        yield
    finally:
        write(before)


def flushed():
    return written(torch.set_flush_denormal, True, False)


def flag(owner, name, value):
    return written(lambda new: setattr(owner, name, new), value, getattr(owner, name))


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast on cuda": lambda: torch.autocast("cuda", torch.bfloat16) if torch.cuda.is_available() else ExitStack(),
    "float64": lambda: written(torch.set_default_dtype, torch.float64, torch.float32),
    "device": lambda: torch.device("meta"),
    "default device": lambda: written(torch.set_default_device, "meta", None),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic": lambda: written(torch.use_deterministic_algorithms, True, False),
    "matmul precision": lambda: written(torch.set_float32_matmul_precision, "medium", "highest"),
    "cudnn": lambda: torch.backends.cudnn.flags(enabled=False, benchmark=True),
    "onednn": lambda: flag(torch.backends.mkldnn, "enabled", False),
    "threads": lambda: written(torch.set_num_threads, 3, torch.get_num_threads()),
    "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=True),
    "errstate": lambda: np.errstate(all="raise"),
    "denormals": flushed,
    "seed": lambda: written(torch.manual_seed, 7, 0),
}  # fmt: skip
if hasattr(torch.backends.mkldnn, "conv"):
    SURROUNDINGS["bfloat16 convolutions"] = lambda: flag(torch.backends.mkldnn.conv, "fp32_precision", "bf16")


def state():
    """Return all that a run sets aside, as it is now."""
    conv = getattr(torch.backends.mkldnn, "conv", None)
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.backends.mkldnn.enabled,
        getattr(conv, "fp32_precision", None),
        torch.get_num_threads(),
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
        np.geterr(),
        sys.float_info.min / 2.0,
    )


@pytest.fixture(scope="module")
def alone():
    return pt.run(TINY, report=quiet)


def surrounded(names):
    stack = ExitStack()
    for name in names:
        stack.enter_context(SURROUNDINGS[name]())
    return stack


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_run_is_the_same_in_each_surrounding(name, alone, tmp_path):
    with surrounded([name]):
        before = state()
        found = pt.run(TINY, tmp_path, report=quiet)
        assert state() == before
    assert found.identical(alone)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@settings(max_examples=12)
@given(names=st.lists(st.sampled_from(sorted(SURROUNDINGS)), min_size=2, max_size=6, unique=True))
def test_a_run_is_the_same_in_any_surroundings(names, alone):
    with surrounded(names):
        before = state()
        found = pt.run(TINY, report=quiet)
        assert state() == before
    assert found.identical(alone)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_are_found_again_after_an_error(name):
    with surrounded([name]):
        before = state()

        def fail(*_):
            assert state() != before or name == "seed" or torch.get_num_threads() == 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pt.run(TINY, report=fail)
        assert state() == before


def trained(images):
    trainer = Trainer(TINY, images)
    while not trainer.finished:
        if trainer.measurement_due:
            trainer.measure()
        else:
            trainer.step()
    again = Trainer(TINY, images)
    again.load_state_dict(trainer.state_dict())
    return again.to_dataset()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", [name for name in SURROUNDINGS if name != "threads"])
def test_a_trainer_of_ones_own_loop(name, alone):
    """But for the number of threads, which is the caller's."""
    images = pt.data.load(**TINY.data.model_dump())
    with surrounded([name]):
        assert trained(images).identical(alone)


@pytest.mark.parametrize("name", ["autocast", "float64", "device", "inference_mode"])
def test_networks_and_baselines(name, tmp_path):
    pt.run(TINY, tmp_path, report=quiet)
    images = pt.data.load(**TINY.data.model_dump())
    network, expected = pt.load_network(tmp_path), uniform_baseline(TINY, build_network(TINY, images), images)
    with surrounded([name]):
        again = pt.load_network(tmp_path)
        model = Trainer(TINY).model
        assert uniform_baseline(TINY, model, images).identical(expected)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)
        assert not other.is_inference()


def test_runs_in_threads_leave_what_all_threads_share(alone):
    """The second begins within the first's surroundings, and ends after it."""
    first_runs, second_ran = threading.Event(), threading.Event()

    def wait_within(*_):
        first_runs.set()
        assert second_ran.wait(60)

    def late(*_):
        second_ran.set()

    with written(torch.set_default_dtype, torch.float64, torch.float32), ThreadPoolExecutor(2) as pool:
        before = state()
        first = pool.submit(pt.run, TINY, report=wait_within)
        assert first_runs.wait(60)
        second = pool.submit(pt.run, TINY, report=late)
        assert first.result().identical(alone)
        assert second.result().identical(alone)
        assert state() == before


def test_blocks_within_another_change_nothing():
    before = state()
    with own_settings():
        within = state()
        with own_settings(threads=2):
            assert state() == within
    with suppress(ZeroDivisionError), own_settings():
        _ = 1 / 0
    assert state() == before
