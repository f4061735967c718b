import json
import sys
from functools import partial

import pytest
import torch
import typer
from typer.testing import CliRunner

from pythermo.bench import __main__ as command
from pythermo.bench import (
    batch_norm_relu,
    ensemble,
    knn,
    projected_sgd_step,
    sphere,
    thermometer,
    training,
)


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def tiny(monkeypatch):
    """Let every part of the benchmark be of the smallest size."""

    def replace(module, name, smaller):
        monkeypatch.setattr(module, name, partial(smaller, getattr(module, name)))

    for one in (batch_norm_relu, ensemble, knn, projected_sgd_step, sphere, thermometer):
        replace(one, "median_seconds", lambda measure, contenders, *_, **__: measure(contenders, 1, 0.0))
    networks = projected_sgd_step.NETWORKS
    monkeypatch.setattr(projected_sgd_step, "NETWORKS", {"ConvNet(8)": networks["ConvNet(8)"]})
    replace(sphere, "measure_toy", lambda measure, *_: measure(64, 32, 1))
    replace(sphere, "measure_costs", lambda measure, *_: measure(1, 100, [64]))
    replace(knn, "measure_many_coordinates", lambda measure, *_: measure(60, 100, 1))
    replace(knn, "measure_small_clouds", lambda measure, clouds, points, dtype, _: measure(2, 60, dtype, 1))
    replace(knn, "measure_many_points", lambda measure, *_: measure(100, 1))
    replace(knn, "measure_errors", lambda measure: measure(20, 100))
    replace(knn, "_peak", lambda measure, dtype: measure(dtype, side=32))
    replace(projected_sgd_step, "measure", lambda measure, network, _: measure(network, 1, 1e-3))
    replace(batch_norm_relu, "measure", lambda measure, layer, _: measure(layer, 1))
    monkeypatch.setitem(sys.modules, "numba", None)  # it compiles for seconds
    run = training.configuration(3, 2, 2, window=2, width=2), training.random_images(200, 40)
    replace(training, "measure", lambda measure, *_: measure(*run))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_command_prints_its_tables_and_writes_its_results(tmp_path, tiny):
    result = invoke("--quick", "--json", str(tmp_path / "results.json"))
    assert result.exit_code == 0, result.output
    assert "x published" in result.output
    written = json.loads((tmp_path / "results.json").read_text())
    assert {one["chains"] for one in written["sphere_toy"]} == {64}
    assert [one["dim"] for one in written["sphere_cost"]] == [3, 3, 16, 16, 256, 256]
    assert [one["clouds"] for one in written["knn_speed"]] == [1, 2, 2, 1]
    assert {one["cloud"] for one in written["knn_error"]} == {"isotropic", "random walk", "line with jitter"}
    assert [one["contender"] for one in written["training"]] == ["published", "pythermo"]
    assert {one["iterations"] for one in written["training"]} == {3}
    assert {one["weights"] for one in written["projected_sgd_step"]} == {24408}
    (one, *_) = written["batch_norm_relu"]
    assert batch_norm_relu.Layer(**one["layer"]) == batch_norm_relu.LAYERS[3]


def test_a_part_is_run_by_its_name(tiny):
    result = invoke("batch_norm_relu", "--quick")
    assert result.exit_code == 0, result.output
    assert "x channels last" in result.output
    assert "chain-step" not in result.output


def test_a_benchmark_without_its_device_says_that_it_did_not_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("--device", "cuda")
    assert result.exit_code == 1
    assert "did not run" in result.output
    assert invoke("knn", "--device", "cuda").exit_code == 2
