from pathlib import Path

import pytest

from pythermo.bench.gpu_hours import PAPER, cost_of_the_paper_s, table


def test_the_paper_s_sweeps():
    published = [24_408, 1_550_016, 24_408, 3_486_240, 43_692, 2_790_240, 43_692, 6_277_392]
    assert [cost_of_the_paper_s(name).weights for name in PAPER] == published
    assert cost_of_the_paper_s("convnet-cifar10-op").window_bytes == pytest.approx(6.2e9, rel=1e-3)


def test_the_table_of_the_documentation_is_the_computed_one():
    assert table() in (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
