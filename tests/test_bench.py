import json

import pytest
import torch
from reference import projected_step
from typer.testing import CliRunner

from pythermo import ops
from pythermo.bench import __main__ as command
from pythermo.bench import step
from pythermo.bench.timing import median_seconds


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
    (one, *_) = json.loads((tmp_path / "results.json").read_text())["step"]
    assert one["weights"] == 24408
    row = step.StepResult(**one)
    assert row.against_published == pytest.approx(one["published"] / one["fused"])
