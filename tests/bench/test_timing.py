from types import SimpleNamespace

import pytest

from pythermo.bench import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that only contenders move."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_each_contender_has_the_median_of_its_turns(clock):
    order = []

    def taking(name, seconds):
        def call():
            order.append(name)
            clock.now += seconds.pop(0)

        return call

    # Two calls that warm up, of which the second says that two fit into a turn of 4 s; then three turns of
    # one call that brings the data back and two that count.
    slow, quick = [9, 2, 9, 2, 2, 9, 5, 5, 9, 30, 50], [8, 1.5, 8, 2, 2, 8, 1, 1, 8, 6, 6]
    seconds = timing.median_seconds({"slow": taking("slow", slow), "quick": taking("quick", quick)}, 3, 4.0)
    assert seconds == {"slow": 5.0, "quick": 2.0}
    assert order[4:] == ["slow", "slow", "slow", "quick", "quick", "quick"] * 3
