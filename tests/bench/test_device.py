from pythermo.bench import device as bench


def test_the_benchmark_of_a_device():
    results = {one.kernel: one for one in bench.measure("cpu", rounds=2, smaller=512)}
    assert set(results) == {"projected_sgd_step_", "gradient_sums_", "knn_distance_sums", "sphere.simulate"}
    for one in results.values():
        assert one.seconds > 0
        assert 0 < one.of_copy < 100
        assert one.kernel in bench.table([one])
    assert results["knn_distance_sums"].operations == 3 * 250**2 * (24_408 // 512)
