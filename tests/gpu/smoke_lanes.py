"""Members side by side: losses, gradients and steps of whole networks beside the CPU's kernels."""

import contextlib

import torch
from place import Place

import pythermo as pt
from pythermo import models
from pythermo.training.lane_layout import Batch, Layout, as_samples
from pythermo.training.lanes import LaneNetwork
from pythermo.training.program import read_program

NETWORKS = {
    "ConvNet(2), 8x8": (lambda: models.ConvNet(2, in_channels=1), (1, 8, 8)),
    "ConvNet(3), 9x14x3": (lambda: models.ConvNet(3, in_channels=3), (3, 9, 14)),
    "ResNet18(2), 8x8x3": (lambda: models.ResNet18(2, in_channels=3), (3, 8, 8)),
    "ConvNet(8), 28x28": (lambda: models.ConvNet(8, in_channels=1), (1, 28, 28)),
}
SIZES = {"full": (4, (1, 33, 64), 16), "small": (3, (33,), 4), "least": (1, (33,), 2)}


def run(place: Place) -> None:
    networks, members, batch = SIZES[place.sizes]
    for name in list(NETWORKS)[:networks]:
        for count in members:
            place.check(
                f"lanes: {name}, {count} members, batch {batch}",
                lambda name=name, count=count: beside_the_cpu(place, name, count, batch),
            )
    if not place.fake:
        place.check("lanes: an ensemble steps in a graph as it does without", captured)


def beside_the_cpu(place: Place, name: str, count: int, batch: int) -> str:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    program = read_program(make(), shape)
    weights = torch.randn(count, program.dim)
    images, labels = torch.randn(40, *shape), torch.randint(10, (40,))
    indices = torch.randint(40, (count, batch))
    device = torch.device(place.device)
    found = of_layout(place, Layout(32, -(-count // 32), device), program, weights, images, labels, indices)
    apart = 0.0
    for member in {0, count - 1}:
        one = slice(member, member + 1)
        alone = of_layout(None, Layout.of_vector(), program, weights[one], images, labels, indices[one])
        for here, there in zip(found, alone, strict=True):
            apart = max(apart, float((here[member] - there[0]).norm() / there[0].norm()))
    assert apart < 1e-3, apart  # ResNet18 normalizes one pixel or four of few images
    return f"apart by {apart:.1e}"


def of_layout(
    place: Place | None,
    layout: Layout,
    program: object,
    weights: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    indices: torch.Tensor,
) -> list[torch.Tensor]:
    """Return losses, gradients and moved weights, in float64 on the CPU."""
    network, device = LaneNetwork(program, layout), layout.device
    network.weights.set(weights)
    chosen = labels[indices].to(device)
    batch = Batch.of_members(layout, as_samples(images).to(device), indices.to(device), chosen)
    lr = torch.full((layout.members,), 0.1, dtype=torch.float64, device=device)
    with contextlib.nullcontext() if place is None else place.in_place_of_the_cpu():
        losses = network.losses_and_gradient(batch, squared_error=False).losses[: len(weights)]
        network.step("lanes_projected_step", lr, torch.ones_like(lr))
    assert int(network.status.abs().sum()) == 0
    results = losses, network.grad.get(len(weights)), network.weights.get(len(weights))
    return [one.double().cpu() for one in results]


def captured() -> str:
    from pythermo.training.lane_step import LaneSteps

    model, device = models.ConvNet(2, in_channels=1), torch.device("cuda")
    images = pt.data.load("digits").to(device)
    samples, labels = as_samples(images.train_images), images.train_labels
    program, found = read_program(model, (1, 8, 8)), []
    torch.manual_seed(0)
    weights, indices = torch.randn(40, program.dim), torch.randint(len(labels), (40, 16), device=device)
    for name in ("_make", "_replay"):
        network = LaneNetwork(program, Layout.on_device(40, device))
        network.weights.set(weights / weights.norm(dim=1, keepdim=True))

        def batch_of(chosen: torch.Tensor, network: LaneNetwork = network) -> Batch:
            return Batch.of_members(network.layout, samples, chosen, labels[chosen])

        steps = LaneSteps(network, batch_of, "lanes_projected_step", [1.0] * 40, 16, False)
        if name == "_make":
            steps._replay = steps._make
        for _ in range(3):
            steps.make(list(indices), [0.01] * 40 + [0.0] * 24)
        found.append(network.weights.get(40))
    assert torch.equal(*found)
    return "equal bits"
