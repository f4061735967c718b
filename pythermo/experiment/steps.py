"""One training step: batch in, weights moved; as it stands, or captured in a CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pythermo.data import Images
from pythermo.models.losses import Loss
from pythermo.optim import ProjectedSGD

# Makes the step of the batch with the given indices [size].
Step = Callable[[Tensor], None]

# Steps before a capture, in which libraries choose their algorithms and allocate what they keep.
_WARM_UP = 3


def plain_step(model: nn.Module, loss: Loss, optimizer: ProjectedSGD, images: Images) -> Step:
    """Return the step of a network on its training images."""

    def step(batch: Tensor) -> None:
        optimizer.zero_grad()
        inputs, labels = images.batch(batch)
        loss(model(inputs), labels).backward()
        optimizer.step()

    return step


def captured_step(
    model: nn.Module, loss: Loss, optimizer: ProjectedSGD, images: Images, batch_size: int
) -> Step:
    """Return the same step as one CUDA graph, which the device runs without Python in between.

    The weights are as before when this returns.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    device = images.train_labels.device
    batch = torch.arange(batch_size, device=device) % len(images.train_labels)

    def forward_and_backward() -> None:
        optimizer.zero_grad(set_to_none=False)  # gradients keep their place in the flat buffer
        inputs, labels = images.batch(batch)
        loss(model(inputs), labels).backward()
        optimizer.step()

    before = [param.detach().clone() for param in params]
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
        for param, values in zip(params, before, strict=True):
            param.copy_(values)

    def step(indices: Tensor) -> None:
        batch.copy_(indices)
        with torch.cuda.device(device):
            graph.replay()

    return step


@contextmanager
def reproducible_kernels() -> Iterator[None]:
    """Let cuDNN take algorithms that give the same bits each time, in full float32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
