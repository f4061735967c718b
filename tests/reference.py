"""Plain references in extended precision that the kernels are tested against."""

import numpy as np
import torch

# Sizes at the edges of lanes (32), runs (1024) and blocks (32 768), and of what users have.
EDGE_SIZES = (1, 2, 7, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1000, 1023, 1024, 1025, 4096, 32769, 100003)


def projected_step(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> torch.Tensor:
    w, g = _wide(weights), _wide(grad)
    moved = w - lr * g
    return _narrow(radius * moved / _norm(moved))


def exponential_step(weights: torch.Tensor, grad: torch.Tensor, lr: float, radius: float) -> torch.Tensor:
    w, g = _wide(weights), _wide(grad)
    unit = w / _norm(w)
    tangent = g - (g @ unit) * unit
    angle = lr * _norm(tangent) / radius
    return _narrow(radius * (np.cos(angle) * unit - np.sin(angle) * tangent / _norm(tangent)))


def decaying_step(
    weights: torch.Tensor, grad: torch.Tensor, lr: float, weight_decay: float, effective: bool
) -> torch.Tensor:
    """Step with weight decay in full space, at a learning rate or an effective one, as arXiv 2511.07308 has it."""
    w, g = _wide(weights), _wide(grad)
    eta = lr * (w @ w) if effective else lr
    return _narrow(w - eta * (g + weight_decay * w))


def batch_norm_relu(x: torch.Tensor, pool: int, eps: float) -> torch.Tensor:
    """Normalize channels, then ReLU, then the largest of pool x pool pixels, as arXiv 2505.23489 has it."""
    wide = _wide(x)
    apart = wide - wide.mean(axis=(0, 2, 3), keepdims=True)
    active = np.maximum(apart / np.sqrt((apart**2).mean(axis=(0, 2, 3), keepdims=True) + eps), 0)
    height, width = (side // pool for side in x.shape[2:])
    rows = active[:, :, : height * pool, : width * pool].reshape(*x.shape[:2], height, pool, width, pool)
    return _narrow(rows.max(axis=(3, 5)))


def _wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.longdouble)


def _narrow(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float64))


def _norm(array: np.ndarray) -> np.longdouble:
    return np.sqrt(array @ array)


def distances(points: np.ndarray) -> np.ndarray:
    """Return all distances [n, n] in extended precision: differences first."""
    wide = points.astype(np.longdouble)
    return np.sqrt(((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=-1))


def sphere_point(dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    point = torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (point / point.norm()).to(dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
