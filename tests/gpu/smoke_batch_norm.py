"""Normalization, pooling and ReLU of a network's images, forward and backward."""

import torch
from place import CPU, FLOAT32, FLOAT64, Place, View, normal, within

EPS = 1e-12
LIMIT = {FLOAT32: 1e-5, FLOAT64: 1e-13}  # some roundings of values of up to 10


def run(place: Place) -> None:
    shapes = [(1, 2, 3, 1), (3, 5, 4, 8), (2, 7, 9, 33), (1, 4, 5, 257)]
    shapes += [(20, 28, 28, 2), (9, 16, 16, 16)] if place.sizes != "least" else []
    shapes += [(128, 32, 32, 64), (128, 8, 8, 512)] if place.sizes == "full" else []
    for dtype in (FLOAT32, FLOAT64):
        for shape in shapes:
            for pool in (1, 2):
                for offset in (0, 1):
                    place.check(
                        f"batch_norm_relu, {dtype}, {list(shape)}, pool {pool}, from element {offset}",
                        lambda dtype=dtype, shape=shape, pool=pool, offset=offset: both_passes(
                            place, dtype, shape, pool, offset
                        ),
                    )


def both_passes(
    place: Place, dtype: torch.dtype, shape: tuple[int, int, int, int], pool: int, offset: int
) -> str:
    """``shape``: [N, H, W, C], as the kernels take images."""
    n, height, width, channels = shape
    x, grad = normal(*shape, seed=1, dtype=dtype) + 2, normal(n, height // pool, width // pool, channels)
    expected = of(CPU, x, grad.to(dtype), pool)
    there = [View(images, offset, place.device) for images in (x, grad.to(dtype))]
    found = of(place.kernels, *(view.tensor for view in there), pool)
    again = of(place.kernels, *(view.tensor for view in there), pool)
    assert all(map(torch.equal, found, again)), "other bits the second time"
    pairs = zip(found, expected, strict=True)
    return within(max(float((one.cpu() - other).abs().max()) for one, other in pairs), LIMIT[dtype])


def of(kernels, x: torch.Tensor, grad: torch.Tensor, pool: int) -> list[torch.Tensor]:
    """Return outputs, statistics and the gradient of images, all of which were NaN before."""
    output, grad_x = torch.full_like(grad, torch.nan), torch.full_like(x, torch.nan)
    statistics = torch.full((2 * x.shape[3],), torch.nan, dtype=x.dtype, device=x.device)
    images, pooled, gradient, to = (one.permute(0, 3, 1, 2) for one in (x, output, grad, grad_x))
    kernels.batch_norm_relu(images, pool, EPS, pooled, statistics)
    kernels.batch_norm_relu_backward(images, pool, pooled, statistics, gradient, to)
    return [output, statistics, grad_x]
