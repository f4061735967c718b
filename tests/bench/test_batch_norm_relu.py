from functools import partial

import pytest
import torch

from pythermo import ops
from pythermo.bench import batch_norm_relu as bench
from pythermo.ops.batch_norm_relu import batch_norm_relu_by_torch


@pytest.mark.parametrize("pool", [1, 2])
def test_all_layers_do_the_same_work(pool):
    x = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = bench.EPS
    layers = (
        bench.published,
        partial(batch_norm_relu_by_torch, eps=eps),
        partial(ops.batch_norm_relu, eps=eps),
    )
    outputs = [layer(x, pool) for layer in layers]
    grads = [
        bench.both_passes(layer, x, pool, layout)()
        for layer, layout in zip(
            layers, (torch.contiguous_format, torch.channels_last, torch.channels_last), strict=True
        )
    ]
    for values in (outputs, grads):
        torch.testing.assert_close(values[0], values[1])
        torch.testing.assert_close(values[0], values[2])


def test_the_bytes_that_the_layer_moves():
    layer = bench.Layer(128, 64, 8, 2)
    result = bench.LayerResult(layer, threads=1, published=4.0, channels_last=3.0, pythermo=2.0, copy=1.0)
    # The images are read three times, their gradient is written; the outputs are a quarter.
    assert result.bandwidth == 5 * 4 * 128 * 64 * 8 * 8 / 2.0
