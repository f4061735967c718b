"""The paper's way: one chain after the other, gradients by autograd, fed the draws of the simulator."""

import numpy as np
import torch

from pythermo.sphere import IsotropicNoise


def loss(system, w: torch.Tensor, batch=None) -> torch.Tensor:
    if isinstance(system, IsotropicNoise):
        return 1.0 + w[-1] / w.norm()
    vectors = torch.from_numpy(np.array(system.vectors))
    chosen = vectors if batch is None else vectors[batch]
    return ((chosen @ w) ** 2).mean() / (w @ w)


def gradient(system, w: torch.Tensor, batch=None) -> torch.Tensor:
    leaf = w.clone().requires_grad_()
    loss(system, leaf, batch).backward()
    return leaf.grad


def trajectory(system, start, lr, draws, retraction="projection", protocol="sphere", weight_decay=0.0):
    """Return the points [steps + 1, D] of one chain with the draws [steps, B or D]."""
    w = torch.tensor(start, dtype=torch.float64)
    points = [w.numpy().copy()]
    for draw in torch.from_numpy(np.array(draws)):
        if isinstance(system, IsotropicNoise):
            noise = system.sigma * draw / w.norm()
            grad = gradient(system, w) + noise - (noise @ w) / (w @ w) * w
        else:
            grad = gradient(system, w, draw)
        if protocol == "fixed-lr":
            w = w - lr * (grad + weight_decay * w)
        elif protocol == "fixed-elr":
            w = w - lr * (w @ w) * (grad + weight_decay * w)
        elif retraction == "projection":
            moved = w - lr * grad
            w = moved / moved.norm()
        else:
            tangent = grad - (grad @ w) * w
            angle = lr * tangent.norm()
            w = (
                torch.cos(angle) * w - lr * torch.sinc(angle / torch.pi) * tangent
            )  # sinc(x) = sin(pi x) / pi x
        points.append(w.numpy().copy())
    return np.array(points)


def signal_and_noise(system, w: np.ndarray) -> tuple[float, float, float]:
    """Return |G|, mean |g_i| and the SNR of the samples' gradients at a point."""
    point = torch.tensor(w, dtype=torch.float64)
    grads = torch.stack([gradient(system, point, [i]) for i in range(len(system.vectors))])
    full = grads.mean(dim=0)
    noise = ((grads - full) ** 2).sum(dim=1).mean().sqrt()
    return float(full.norm()), float(grads.norm(dim=1).mean()), float(full.norm() / noise)
