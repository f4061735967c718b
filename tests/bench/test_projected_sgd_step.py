import torch
from reference import projected_step

from pythermo import ops
from pythermo.bench import projected_sgd_step as bench


def flat(params) -> torch.Tensor:
    return torch.cat([param.detach().flatten() for param in params])


def test_all_contenders_do_the_same_work(monkeypatch):
    params = bench.parameters("ConvNet(8)")
    weights, grad = flat(params), flat(param.grad for param in params)
    monkeypatch.setattr(bench, "LR", 0.001)
    expected = projected_step(weights, grad, bench.LR, 1.0)
    published = bench.Published(params)
    published()
    results = [flat(params)]
    for function in (bench.flat_norm, bench.flat_dot, lambda w, g: ops.projected_sgd_step_(w, g, bench.LR)):
        results.append(weights.clone())
        function(results[-1], grad)
    for result in results:
        # torch's float32 norms are off by some 1e-7.
        torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-9)
