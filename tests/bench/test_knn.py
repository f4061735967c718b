import torch

from pythermo import ops
from pythermo.bench import knn as bench


def test_the_errors_show_what_an_expanded_square_loses():
    results = {(one.cloud, one.spread): one for one in bench.measure_errors(points=60, dim=300)}
    for one in results.values():
        assert one.pythermo <= 1e-6
        assert one.pythermo_float64 <= 1e-14
    # Squares expanded in float32 know 1 to 6e-8: nothing of a spread of 1e-5 is left, and 3 digits at 1e-2.
    assert results["isotropic", 1e-5].cdist > 0.5
    assert results["isotropic", 1e-7].cdist_float64 > 1e-5
    assert results["line with jitter", 1e-2].cdist > 0.1


def test_all_knn_contenders_find_the_same():
    points = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = ops.knn_distances(points, 5)
    torch.testing.assert_close(bench.published(points)[..., 1:6], expected)
    torch.testing.assert_close(bench.cdist_topk(points, 6)[..., 1:], expected)


def test_a_window_beyond_memory_is_left_out():
    assert bench.measure_huge_window(10**6, 10**9) is None
