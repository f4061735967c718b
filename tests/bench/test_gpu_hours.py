from pathlib import Path

import pytest

from pythermo.bench.gpu_hours import PAPER, cost_of_the_paper_s, ensemble_hours, ensemble_table, table


def test_the_paper_s_sweeps():
    published = [24_408, 1_550_016, 24_408, 3_486_240, 43_692, 2_790_240, 43_692, 6_277_392]
    assert [cost_of_the_paper_s(name).weights for name in PAPER] == published
    assert cost_of_the_paper_s("convnet-cifar10-op").window_bytes == pytest.approx(6.2e9, rel=1e-3)


def test_an_ensemble_takes_the_time_of_whole_warps():
    """22 learning rates by 8 seeds are 176 members in 6 warps, 1.6 million steps and 16 % of measurements more."""
    steps = 192 * 123e-6 * 1.6e6 / 3600
    assert ensemble_hours("convnet-cifar10-up") == pytest.approx(steps / (1 - 0.16), rel=0.01)


def test_the_tables_of_the_documentation_are_the_computed_ones():
    docs = Path(__file__).parents[2] / "docs"
    assert table() in (docs / "scaling.md").read_text()
    assert ensemble_table() in (docs / "cuda.md").read_text()
