import json
import sys
from functools import partial

import numpy as np
import pytest
import torch
from reference import projected_step
from sphere_reference import trajectory
from typer.testing import CliRunner

from pythermo import ops, sphere
from pythermo.bench import __main__ as command
from pythermo.bench import device as device_bench
from pythermo.bench import knn as knn_bench
from pythermo.bench import normalisation, step
from pythermo.bench import sphere as sphere_bench
from pythermo.bench import training as training_bench
from pythermo.bench.timing import median_seconds
from pythermo.experiment.network import build_model
from pythermo.experiment.run import Trainer
from pythermo.ops.batch_norm_relu import batch_norm_relu_by_torch


def flat(params) -> torch.Tensor:
    return torch.cat([param.detach().flatten() for param in params])


def test_all_contenders_do_the_same_work(monkeypatch):
    params = step.parameters("ConvNet(8)")
    weights, grad = flat(params), flat(param.grad for param in params)
    monkeypatch.setattr(step, "LR", 0.001)
    expected = projected_step(weights, grad, step.LR, 1.0)
    published = step.Published(params)
    published()
    results = [flat(params)]
    for function in (step.flat_norm, step.flat_dot, lambda w, g: ops.projected_sgd_step_(w, g, step.LR)):
        results.append(weights.clone())
        function(results[-1], grad)
    for result in results:
        # torch's float32 norms are off by some 1e-7.
        torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pool", [1, 2])
def test_all_layers_do_the_same_work(pool):
    x = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = normalisation.EPS
    layers = (
        normalisation.published,
        partial(batch_norm_relu_by_torch, eps=eps),
        partial(ops.batch_norm_relu, eps=eps),
    )
    outputs = [layer(x, pool) for layer in layers]
    grads = [
        normalisation.both_passes(layer, x, pool, layout)()
        for layer, layout in zip(
            layers, (torch.contiguous_format, torch.channels_last, torch.channels_last), strict=True
        )
    ]
    for values in (outputs, grads):
        torch.testing.assert_close(values[0], values[1])
        torch.testing.assert_close(values[0], values[2])


def test_medians_and_turns():
    calls = {"a": 0, "b": 0}

    def counted(name):
        calls[name] += 1

    seconds = median_seconds({name: lambda name=name: counted(name) for name in calls}, 3, 1e-4)
    assert seconds.keys() == calls.keys()
    assert min(seconds.values()) > 0
    assert min(calls.values()) >= 2 + 3 * 2


def test_the_command_prints_ratios(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "NETWORKS", {"ConvNet(8)": step.NETWORKS["ConvNet(8)"]})
    toy, costs = sphere_bench.measure_toy, sphere_bench.measure_costs
    monkeypatch.setattr(sphere_bench, "measure_toy", lambda chains, steps, rounds: toy(64, 32, 1))
    monkeypatch.setattr(sphere_bench, "measure_costs", lambda rounds, steps, counts: costs(1, 100, [64]))
    speeds = {
        "measure_many_coordinates": lambda points, dim, rounds, measure: measure(60, 100, 1),
        "measure_small_clouds": lambda clouds, points, dtype, rounds, measure: measure(2, 60, dtype, 1),
        "measure_many_points": lambda points, rounds, measure: measure(100, 1),
    }
    for name, smaller in speeds.items():
        monkeypatch.setattr(knn_bench, name, partial(smaller, measure=getattr(knn_bench, name)))
    monkeypatch.setattr(knn_bench, "measure_errors", partial(knn_bench.measure_errors, 20, 100))
    training = training_bench.measure
    monkeypatch.setattr(training_bench, "measure", lambda config, images: training(*small_run()))
    import typer

    app = typer.Typer()
    app.command()(command.main)
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(app, ["--quick", "--json", str(tmp_path / "results.json")])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    assert "x published" in result.output
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["sphere_toy"][0]["pythermo"] > 0
    assert [one["dim"] for one in written["sphere_cost"]] == [3, 3, 16, 16, 256, 256]
    assert [one["clouds"] for one in written["knn_speed"]] == [1, 2, 2, 1]
    assert {one["cloud"] for one in written["knn_error"]} == {"isotropic", "random walk", "line with jitter"}
    assert [one["contender"] for one in written["training"]] == ["published", "pythermo"]
    for one in written["training"]:
        result = training_bench.TrainingResult(**one)
        assert (result.iterations, result.measurements) == (30, 13)
        assert min(one[phase] for phase in training_bench.Phase) > 0
        # What is left is the loop.
        assert 0.9 * result.total < result.training + result.measuring <= result.total
    (one, *_) = written["normalisation"]
    layer = normalisation.NormalisationResult(**{**one, "layer": normalisation.Layer(**one["layer"])})
    assert layer.layer == normalisation.LAYERS[3]
    # The images are read three times, their gradient is written; the outputs are a quarter.
    assert layer.bandwidth * layer.pythermo == pytest.approx(5 * 4 * 128 * 64 * 8 * 8)
    (one, *_) = written["step"]
    assert one["weights"] == 24408
    row = step.StepResult(**one)
    assert row.against_published == pytest.approx(one["published"] / one["fused"])


def test_the_autograd_loop_steps_as_the_simulator(monkeypatch):
    seen = []
    monkeypatch.setattr(sphere_bench.torch, "randint", lambda high, size: torch.tensor([0, 2, 1, 1]))
    real = sphere_bench.torch.autograd.grad

    def spy(loss, w):
        seen.append(w.detach().numpy().copy())
        return real(loss, w)

    monkeypatch.setattr(sphere_bench.torch.autograd, "grad", spy)
    system = sphere.underparameterized()
    sphere_bench.autograd_loop(system, lrs=1, steps=4)
    expected = trajectory(system, sphere.PAPER_START, sphere_bench.LR, [[0], [2], [1]])
    np.testing.assert_allclose(seen, expected, atol=1e-15)


def small_run():
    config = training_bench.configuration(30, 3, 3, window=12, width=2)
    return config, training_bench.random_images(200, 40)


def test_both_ways_of_training_do_the_same_work():
    config, images = small_run()
    ours, published = training_bench.Watched(config, images), training_bench.Published(config, images)
    assert torch.equal(ours.weights(), published.weights())
    start = ours.weights()
    for iteration in (0, 1, 2):
        for run in (ours, published):
            training_bench.advance(run, iteration)
        moved = (ours.weights() - start).norm()
        # float32 in another order of sums; where a ReLU or a maximum is on the edge it takes the other side,
        # which is some 1e-2 of a gradient.
        assert (ours.weights() - published.weights()).norm() <= 0.03 * moved
        one, other = ours.rows[-1], published.rows[-1]
        for name in ("loss", "test_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-3)
        for name in ("snr", "full_grad_norm", "mean_grad_norm", "mean_noise_norm", "rms_noise_norm"):
            assert one[name] == pytest.approx(other[name], rel=0.03)
    assert moved > 0


def test_both_ways_of_training_find_the_same_entropy():
    config, images = small_run()
    ours, published = training_bench.Watched(config, images), training_bench.Published(config, images)
    while ours.iteration < 17:
        ours.step()
        published.window.append(ours.weights())
    published.iteration = 17
    for run in (ours, published):
        run.measure()
    # pythermo squares differences in float32: 1e-7 of a length, times D = 1 566.
    np.testing.assert_allclose(ours.rows[-1]["entropy"], published.rows[-1]["entropy"], rtol=0, atol=2e-4)
    assert np.isfinite(ours.rows[-1]["entropy"]).all()


def test_the_entropy_waits_for_a_full_window():
    config, images = small_run()
    for run in (training_bench.Watched(config, images), training_bench.Published(config, images)):
        for iteration, full in ((10, False), (17, True)):  # two that are measured
            training_bench.advance(run, iteration)
            assert np.isfinite(run.rows[-1]["entropy"]).all() == full
            assert np.isnan(run.rows[-1]["entropy"]).all() != full


def test_watching_does_not_change_a_run():
    config, images = small_run()
    watched, trainer = training_bench.Watched(config, images), Trainer(config, images)
    for run in (watched, trainer):
        training_bench.advance(run, 5)
    assert torch.equal(watched.weights(), trainer.weights())
    np.testing.assert_equal(watched.rows, trainer.rows)


def test_the_network_of_the_published_loop_is_the_same_function():
    config, images = small_run()
    model = build_model(config.model, config.training, images).double()
    x = images.test_images.double()
    # float64: sums in another order.
    torch.testing.assert_close(training_bench.PlainConvNet(model)(x), model(x), rtol=1e-10, atol=1e-10)


def test_without_numba_its_column_is_empty(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    result = sphere_bench.measure_toy(8, 8, 1)
    assert np.isnan(result.numba)
    assert result.against_autograd > 0


def test_the_numba_kernel_does_the_same_arithmetic():
    kernel = sphere_bench.numba_kernel()
    assert kernel is not None
    system, weights = sphere.underparameterized(), np.tile(sphere.PAPER_START, (9, 1))
    kernel(system.vectors, weights, sphere_bench.LR, 101, 5)
    found = sphere.simulate(system, sphere_bench.LR, 101, start=sphere.PAPER_START, replicas=9, seed=5)
    # Numba may fuse products and sums: 101 roundings.
    np.testing.assert_allclose(weights, found["final_weights"].values[0], atol=1e-13)


def test_the_errors_show_what_an_expanded_square_loses():
    results = {(one.cloud, one.spread): one for one in knn_bench.measure_errors(points=60, dim=300)}
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
    torch.testing.assert_close(knn_bench.published(points)[..., 1:6], expected)
    torch.testing.assert_close(knn_bench.cdist_topk(points, 6)[..., 1:], expected)


def test_a_window_beyond_memory_is_left_out():
    assert knn_bench.measure_huge_window(10**6, 10**9) is None


def test_the_benchmark_of_a_device():
    results = {one.kernel: one for one in device_bench.measure("cpu", rounds=2, smaller=512)}
    assert set(results) == {"projected_sgd_step_", "gradient_sums_", "knn_distance_sums", "sphere.simulate"}
    for one in results.values():
        assert one.seconds > 0
        assert 0 < one.of_copy < 100
        assert one.kernel in device_bench.table([one])
    assert results["knn_distance_sums"].operations == 3 * 250**2 * (24_408 // 512)


def test_a_benchmark_without_its_device_says_that_it_did_not_run(monkeypatch):
    import typer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, ["--device", "cuda"])
    assert result.exit_code == 1
    assert "did not run" in result.output
    assert CliRunner().invoke(app, ["knn", "--device", "cuda"]).exit_code == 2
