"""One training step: batch in, weights moved; as it stands, or captured in a CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pythermo import ops
from pythermo.data import Images
from pythermo.models.losses import Loss
from pythermo.optim import ProjectedSGD, WeightDecaySGD

# Makes the step of the batch with the given indices [size].
Step = Callable[[Tensor], None]

Optimizer = ProjectedSGD | WeightDecaySGD

# Steps before a capture, in which libraries choose their algorithms and allocate what they keep.
_WARM_UP = 3


def plain_step(
    model: nn.Module, loss: Loss, optimizer: Optimizer, images: Images, before_move: Callable[[], None]
) -> Step:
    """Return the step of a network on its training images; ``before_move`` is called with the gradients."""

    def step(batch: Tensor) -> None:
        optimizer.zero_grad()
        inputs, labels = images.batch(batch)
        loss(model(inputs), labels).backward()
        before_move()
        optimizer.step()

    return step


def captured_step(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    images: Images,
    batch_size: int,
    before_move: Callable[[], None],
) -> Step:
    """Return the same step as one CUDA graph, which the device runs without Python in between.

    Weights and buffers are as before when this returns, and when it raises that a step failed.
    """
    device = images.train_labels.device
    batch = torch.arange(batch_size, device=device) % len(images.train_labels)

    def forward_and_backward() -> None:
        optimizer.zero_grad()  # to None: the graph writes gradients of its own, and adds nothing to zeros
        inputs, labels = images.batch(batch)
        loss(model(inputs), labels).backward()
        before_move()
        optimizer.step()

    ops.raise_failed_steps(device)  # what failed before is not the warm-up's
    state = [*model.parameters(), *model.buffers()]
    before = [tensor.detach().clone() for tensor in state]
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                forward_and_backward()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=beside):  # whose workspace the warm-up has allocated
            forward_and_backward()
    with torch.no_grad():
        for tensor, values in zip(state, before, strict=True):
            tensor.copy_(values)
    ops.raise_failed_steps(device)
    gradients = [(param, param.grad) for group in optimizer.param_groups for param in group["params"]]

    def step(indices: Tensor) -> None:
        for param, grad in gradients:
            param.grad = grad  # where the graph writes it, whatever became of .grad since
        batch.copy_(indices)
        with torch.cuda.device(device):
            graph.replay()

    return step
