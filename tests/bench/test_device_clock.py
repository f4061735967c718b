from types import SimpleNamespace

import pytest
import torch

from pythermo.bench import device_clock
from pythermo.bench.device_clock import DeviceClock

CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch):
    """A clock that only the work moves."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(device_clock, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def taking(now, seconds):
    left = iter(seconds)

    def work():
        now.seconds += next(left)

    return work


def test_the_first_time_of_some_work_does_not_count(now):
    assert DeviceClock(CPU, rounds=3).of(taking(now, [100.0, 1.0, 9.0, 2.0])) == 2.0
    assert DeviceClock(CPU, rounds=3).of_waiting(taking(now, [1.0, 9.0, 2.0])) == 2.0


def test_seconds_of_one_of_the_calls(now):
    order = []

    def call(name):
        order.append(name)
        now.seconds += 3.0

    calls = [lambda name=name: call(name) for name in "abc"]
    assert DeviceClock(CPU, rounds=1).of_one(calls, at_least=4) == 3.0
    # In turn, until there are at least four; once to warm up, and one round.
    assert order == list("abcabc" * 2)


@pytest.mark.parametrize("cache_bytes", [0, 100, 8000, 10**6])
def test_what_is_used_in_turn_does_not_stay_in_the_cache(cache_bytes):
    clock = DeviceClock(CPU, rounds=1, cache_bytes=cache_bytes)
    sets = clock.rotating(lambda: (clock.normal(250), clock.normal(250, dtype=torch.float64)))
    held = sum(tensor.nbytes for one in sets for tensor in one)
    assert held >= 2 * cache_bytes
    assert held - 3000 < max(2 * cache_bytes, 3000)  # and no more than that takes
    places = {tensor.data_ptr() for one in sets for tensor in one}
    assert len(places) == 2 * len(sets)


def test_deviates_are_not_of_one_value_and_of_norm_one():
    values = DeviceClock(CPU, rounds=1).normal(3, 10_000, dtype=torch.float64)
    assert values.std() == pytest.approx(0.01, rel=0.05)
    torch.testing.assert_close(values.norm(dim=1), torch.ones(3, dtype=torch.float64), rtol=0.05, atol=0)


@pytest.mark.cuda
def test_a_graph_makes_each_call_once():
    device = torch.device("cuda", torch.cuda.current_device())
    clock = DeviceClock(device, rounds=2)
    numbers = torch.zeros(3, device=device)
    clock.of_one([lambda i=i: numbers[i].add_(1) for i in range(3)], at_least=3)
    # Before the capture, to warm the graph up, and in two rounds; a capture itself computes nothing.
    assert numbers.tolist() == [4, 4, 4]
    assert clock.cache_bytes > 10**6
