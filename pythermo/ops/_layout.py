"""Tensors that are one vector together: how they lie in memory, and copies of those that lie otherwise."""

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
Grads = Sequence[Tensor | None]


def same(some: Grads, others: Grads) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))


def laid_out_alike(weights: Tensors, grads: Grads) -> tuple[Tensors, Grads]:
    """Return weights without gaps in memory and gradients in their order: themselves, or copies."""
    moved, taken = list(weights), list(grads)
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        _require_alike("weights", i, w, weights[0])
        if not w.is_contiguous() and not _is_dense(i, w):
            moved[i] = w.contiguous()
        if g is None:
            continue
        _require_alike("grad", i, g, weights[0])
        if g.shape == w.shape and not _lie_alike(moved[i], g):
            taken[i] = torch.empty_like(moved[i]).copy_(g)
    _require_apart(weights, [i for i, (w, m) in enumerate(zip(weights, moved, strict=True)) if m is not w])
    return moved, taken


def _require_alike(name: str, index: int, tensor: Tensor, first: Tensor) -> None:
    """Raise unless a tensor is not sparse and has the dtype and device of the first."""
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: tensor {index} must be dense, not {_layout_name(tensor)}")
    if tensor.dtype is not first.dtype:
        raise TypeError(
            f"{name}: the dtype of tensor {index} must be that of the first weights, {first.dtype}, "
            f"not {tensor.dtype}"
        )
    if tensor.device != first.device:
        raise ValueError(
            f"{name}: tensor {index} must lie on the device of the first weights, {first.device}, "
            f"not {tensor.device}"
        )


def _layout_name(tensor: Tensor) -> str:
    return "sparse" if tensor.is_sparse else str(tensor.layout).removeprefix("torch.")


def _lie_alike(weights: Tensor, grad: Tensor) -> bool:
    """Return whether dense weights and a gradient of the same shape have the same order in memory."""
    return weights.stride() == grad.stride() or (weights.is_contiguous() and grad.is_contiguous())


def _is_dense(index: int, tensor: Tensor) -> bool:
    """Return whether a tensor's elements lie side by side; raise if two of them share memory."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride <= reach:
            raise ValueError(f"weights: elements of tensor {index} share memory; each must have its own")
        reach += stride * (size - 1)
    return reach == tensor.numel() - 1


def _require_apart(weights: Tensors, copied: list[int]) -> None:
    """Raise if weights that have gaps share memory with others; what has none the kernel looks at."""
    memories = {weights[i].untyped_storage().data_ptr() for i in copied}
    taken: dict[int, Tensor] = {}
    for i, w in enumerate(weights):
        storage = w.untyped_storage()
        if storage.data_ptr() not in memories:
            continue
        room = torch.zeros(storage.nbytes() // w.element_size(), dtype=torch.bool)
        own = taken.setdefault(storage.data_ptr(), room).as_strided(w.shape, w.stride(), w.storage_offset())
        if own.any():
            raise ValueError(f"weights: tensor {i} shares memory with another; each must have its own")
        own.fill_(True)
