"""A training step in a CUDA graph, of a network with buffers."""

import os

import torch
from place import Place
from torch.nn import functional

import pythermo as pt
from pythermo.training.step import captured_step, plain_step
from pythermo.training.torch_settings import own_settings


def run(place: Place) -> None:
    if not place.fake and "PYTORCH_NO_CUDA_MEMORY_CACHING" not in os.environ:
        place.check("training: a capture gives weights and buffers back, its step is the plain one", captured)


def network() -> torch.nn.Sequential:
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False),
        torch.nn.BatchNorm2d(4, affine=False),  # its running means move in the warm-up
        torch.nn.Flatten(),
        torch.nn.Linear(144, 10),
    ).cuda()
    model[3].requires_grad_(False)
    return model


def captured() -> None:
    images, batch = pt.data.load("digits").to(torch.device("cuda")), torch.arange(16, device="cuda")
    states = []
    with own_settings(threads=None):
        for make in (plain_step, lambda *arguments: captured_step(*arguments, 16)):
            model = network()
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            optimizer = pt.ProjectedSGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
            step = make(model, functional.cross_entropy, optimizer, images)
            if states:
                changed = [
                    name
                    for name, tensor in model.state_dict().items()
                    if not torch.equal(tensor, before[name])
                ]
                assert not changed, f"changed by the capture: {changed}"
            for _ in range(3):
                step(batch)
            pt.ops.raise_failed_steps("cuda")
            states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    plain, graph = states
    differ = [name for name in plain if not torch.equal(plain[name], graph[name])]
    assert not differ, f"other bits than without a graph: {differ}"
