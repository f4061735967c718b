import json
import math

import pytest
import torch
import typer
from typer.testing import CliRunner

from pythermo import ops
from pythermo.bench import __main__ as command
from pythermo.bench import device as bench
from pythermo.bench.batch_norm_relu import Layer
from pythermo.bench.device import DeviceResult, Sizes
from pythermo.bench.ensemble import Case

TINY = Sizes(
    copied=1000,
    product=16,
    weights=(100,),
    clouds=((30, 40),),
    layers=(Layer(2, 3, 6, 2),),
    chains=8,
    chain_steps=(10, 40),
    widths=(2,),
    images=128,
    training_steps=5,
    ensembles=((Case("ConvNet", 2, 1, 8), (1, 3)), (Case("ResNet18", 1, 1, 8), (2,))),
    ensemble_steps=2,
)


@pytest.fixture(scope="module")
def results():
    return list(bench.measure("cpu", rounds=1, sizes=TINY))


def test_what_must_be_moved_and_computed(results):
    found = {(one.work, one.dtype): one for one in results}
    assert found["copy", "float32"].bytes == 2 * 4 * 1000
    assert found["matrix product", "float64"].operations == 2 * 16**3
    # Weights and gradient in float32 are read, the weights written; a gradient and its center in float64 are read.
    assert found["projected_sgd_step_", "float32"].bytes == 100 * (4 + 4 + 4)
    assert found["gradient_sums_", "float32"].bytes == 100 * (4 + 8)
    # 435 pairs: a difference, a square and a sum for each coordinate.
    assert found["knn_distance_sums", "float32"].operations == 435 * 40 * 3
    # Images of 216 numbers three times and their gradient, pooled ones of 54 twice and theirs twice.
    assert found["batch_norm_relu, both passes", "float32"].bytes == 4 * (4 * 216 + 4 * 54)
    assert found["torch's normalization, pooling and ReLU, both passes", "float32"].seconds > 0
    assert {"float32", "float64"} == {dtype for work, dtype in found if work == "sphere.simulate"}


def test_a_training_step_and_the_convolutions_are_measured(results):
    assert sum(one.work == "a training step, eager" for one in results) == 1
    layers = [one.size for one in results if one.work.startswith("a convolution")]
    assert len(layers) == 8
    assert layers[::2] == layers[1::2]  # each in both layouts


def test_members_side_by_side_are_measured_beside_one_run_and_vmap(results):
    sizes = {}
    for one in results:
        sizes.setdefault(one.work, []).append(one.size)
    assert sizes["a step of one run, eager"] == ["ConvNet(2), 8x8x1", "ResNet18(1), 8x8x1"]
    assert sizes["a member's step in an ensemble"] == [
        "ConvNet(2), 8x8x1, 1 members", "ConvNet(2), 8x8x1, 3 members", "ResNet18(1), 8x8x1, 2 members",
    ]  # fmt: skip
    assert sizes["a member's step by torch.func.vmap"] == ["ConvNet(2), 8x8x1, 1 members"]
    # 128 images, three passes but for the first layer's two: 1 -> 2 channels at 8x8, 2 -> 4, 4 -> 8, 8 -> 16.
    taps = 2 * 22**2 * 1 * 2 + 3 * (22**2 * 2 * 4 + 10**2 * 4 * 8 + 4**2 * 8 * 16)
    of_one = next(one for one in results if one.work == "a step of one run, eager")
    assert of_one.operations == 2.0 * 128 * taps


def test_members_without_room_are_left_out(monkeypatch):
    clock = bench.DeviceClock(torch.device("cpu"), rounds=1)
    monkeypatch.setattr("pythermo.bench.device_ensemble.free_memory", lambda device: 10**6)
    found = list(bench._ensembles(clock, Case("ResNet18", 1, 1, 8), (1, 2), steps=1))
    assert [one.work for one in found] == ["a step of one run, eager"]


def test_both_ways_of_a_step_do_the_same_work():
    generator = torch.Generator().manual_seed(1)
    weights, grad = (torch.randn(500, generator=generator, dtype=torch.float64) for _ in range(2))
    weights /= weights.norm()
    by_torch = weights.clone()
    bench._step_by_torch(by_torch, grad)
    torch.testing.assert_close(by_torch, ops.projected_sgd_step_(weights, grad, bench.LR))


def test_shares_are_those_of_the_copy_and_of_the_product_in_the_same_dtype():
    known = [
        DeviceResult("copy", "", seconds=1.0, bytes=1e9),
        DeviceResult("matrix product", "", seconds=1.0, operations=2e12, dtype="float32"),
        DeviceResult("matrix product", "", seconds=1.0, operations=1e12, dtype="float64"),
    ]
    result = DeviceResult("this", "n = 3", seconds=1e-3, bytes=5e5, operations=1e8, dtype="float64")
    assert bench.row(result, known) == "| this | n = 3, float64 | 1000.00 | 0 | 50% | 0.10 | 10.0% |"
    nothing_counted = DeviceResult("that", "n = 3", seconds=1e-6)
    assert bench.row(nothing_counted, known) == "| that | n = 3, float32 | 1.00 |  |  |  |  |"
    assert math.isnan(nothing_counted.bytes)


def test_the_steps_of_chains_are_a_difference(monkeypatch):
    """What the host takes for the start and the end of a simulation is not in it."""
    clock = bench.DeviceClock(torch.device("cpu"), rounds=1)
    asked = []
    monkeypatch.setattr(bench.sphere, "simulate", lambda system, lr, steps, **_: asked.append(steps))
    monkeypatch.setattr(clock, "of_waiting", lambda work: (work(), 5.0 + 2.0 * asked[-1])[1])
    assert bench._chains(clock, TINY, "float64").seconds == 2.0


def test_a_row_is_printed_and_written_as_soon_as_it_is_measured(tmp_path, monkeypatch):
    def one_and_no_more(device, rounds, sizes):
        yield DeviceResult("copy", "8 bytes", seconds=1.0, bytes=8.0)
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(bench, "measure", one_and_no_more)
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, ["--device", "cuda", "--json", str(tmp_path / "results.json")])
    assert result.exit_code == 1
    assert "| copy | 8 bytes, float32 |" in result.output
    (written,) = json.loads((tmp_path / "results.json").read_text())["device"]
    assert written["work"] == "copy"
