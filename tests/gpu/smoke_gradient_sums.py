"""Squared lengths of gradients and of their distances from a center."""

import numpy as np
import torch
from place import FLOAT32, FLOAT64, Place, View, normal, on_another_stream, within
from smoke_step import sizes

from pythermo import ops


def run(place: Place) -> None:
    for dtype in (FLOAT32, FLOAT64):
        for size in sizes(place):
            for offset in (0, 1, 3) if size < 10**6 else (0,):
                place.check(
                    f"gradient_sums, {dtype}, D = {size}, from element {offset}",
                    lambda dtype=dtype, size=size, offset=offset: sums(place, dtype, size, offset),
                )
    place.check("gradient_sums: the same bits each time and for any block size", lambda: same_bits(place))
    if not place.fake:
        place.check("gradient_sums: on another stream", on_a_stream)


def sums(place: Place, dtype: torch.dtype, size: int, offset: int) -> str:
    grad, center = normal(size, seed=1, dtype=dtype), normal(size, seed=2, dtype=FLOAT64)
    total = normal(size, seed=3, dtype=FLOAT64)
    there = [
        View(tensor, at % 4, place.device)
        for tensor, at in ((grad, offset), (center, offset + 1), (total, 1))
    ]
    with place.in_place_of_the_cpu():
        found = ops.gradient_sums_(*(view.tensor for view in there)).cpu().numpy()
    there[2].require_untouched_surroundings()
    assert torch.equal(there[2].tensor.cpu(), total + grad), "the running total"
    g, c = grad.numpy().astype(np.longdouble), center.numpy().astype(np.longdouble)
    exact = np.array([np.sum(g * g), np.sum((g - c) ** 2)])
    # Sums have more digits than float64; what is rounded are their terms, each by some eps of its own.
    return within(float(np.abs(found / exact - 1).max()), 2e-15)


def same_bits(place: Place) -> None:
    grad = normal(1_550_016 if place.sizes == "full" else 24_408, seed=1).to(place.device)
    found = []
    for threads in (32, 64, 160, 256):
        with place.settings(threads=threads), place.in_place_of_the_cpu():
            found += [ops.gradient_sums_(grad).cpu() for _ in range(2)]
    assert all(torch.equal(found[0], other) for other in found[1:])


def on_a_stream() -> None:
    grad = normal(100_003, seed=1).cuda()
    expected = ops.gradient_sums_(grad)
    assert torch.equal(expected, on_another_stream(lambda: ops.gradient_sums_(grad)))
