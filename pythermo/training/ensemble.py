"""Members of one architecture, each with its own learning rate and weights, trained side by side."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pythermo._checks import (
    as_tensor_to_read,
    require_integer,
    require_not_negative,
    require_one_of,
    require_positive,
)
from pythermo._parameters import flatten, write_
from pythermo.config.member import Member, chosen_seeds
from pythermo.config.schema import TrainingConfig
from pythermo.models.layers import FrozenHead, initialize_, require_model, trained_parameters
from pythermo.models.losses import LOSSES
from pythermo.ops._devices import require_device
from pythermo.ops._steps import STEP_ERRORS
from pythermo.optim import RETRACTIONS, project_
from pythermo.sphere.protocols import PROTOCOLS
from pythermo.training.lane_layout import Batch, Layout, as_samples
from pythermo.training.lanes import LaneNetwork, Pass
from pythermo.training.program import Program, read_program
from pythermo.training.protocols import lane_step_of, step_parameter


class Ensemble:
    """Networks of one architecture, each with its own weights, one in each lane of the processor's vectors.

    On a CUDA device 32 of them lie in a warp.

    Members are learning rates with seeds, learning rates first: ``members[i * seeds + j]`` has the i-th
    learning rate and the j-th seed. All start from one point; the batches that `step` is given make them
    differ.

    Parameters
    ----------
    model : nn.Module
        Float32, on the CPU; it is copied, and trained in training mode. Its layers: 1x1 and 3x3 convolutions
        without bias, BatchNorm without affine parameters, ReLU and 2x2 max pooling behind it, sums of
        features, pooling over all pixels, and a frozen linear layer at the end, which all members share.
    lr : float or array [learning rates]
        Positive.
    seeds : int or sequence of int
        How many seeds, 0, 1, ..., or which. They name members; what is drawn with them is the caller's.
    radius : float
        Of the sphere of each member or, without a sphere, the norm of its weights at first.
    initial_seed : int, optional
        Of the weights that all members start from, drawn as `pythermo.models.initialize_` does. Without it
        they are the model's own, scaled to the radius.
    device : str
        "cpu", "cuda" or "cuda:N": where the members live; the model is copied there from the CPU.
    loss : {"cross-entropy", "mse"}
        Of logits and labels; the mean over a batch.
    protocol : {"sphere", "fixed-lr", "fixed-elr"}
        Steps on a sphere as those of `pythermo.ProjectedSGD`, or in full space with weight decay as those of
        `pythermo.WeightDecaySGD`, at a fixed learning rate or at a fixed effective one.
    retraction : {"projection", "exponential"}, optional
        Way back to the sphere, if there is one; "projection" if not given.
    weight_decay : float
        Positive where there is no sphere, and else 0.

    Attributes
    ----------
    members : tuple of Member
        What they are.
    lr : Tensor [members]
        Their learning rates, float64, on the CPU.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, a model without trained weights, and, when the first images come, for a
        layer that members side by side do not have, by its name.

    Notes
    -----
    Every operation is one instruction for all members of a vector: 16 with AVX-512, 8 with AVX2, 32 on a CUDA
    device. A member's bits do not depend on the others, their number and order, or threads; they do depend on
    the instruction set or the kind of the device. Vectors that members do not fill cost as much as full
    ones. Running statistics of BatchNorm, which training does not use, are not kept. Source of the step:
    arXiv 2505.23489 and, in full space, 2511.07308.

    Examples
    --------
    >>> import torch
    >>> from pythermo import models
    >>> ensemble = Ensemble(models.ConvNet(2, in_channels=1), lr=[0.01, 0.1], seeds=2)
    >>> losses = ensemble.step(torch.randn(4, 32, 1, 8, 8), torch.randint(10, (4, 32)))
    >>> losses.shape, ensemble.weights.shape
    (torch.Size([4]), torch.Size([4, 1530]))
    """

    def __init__(
        self,
        model: nn.Module,
        lr: Any,
        seeds: int | Sequence[int] = 1,
        radius: float = 1.0,
        initial_seed: int | None = None,
        device: str = "cpu",
        *,
        loss: Literal["cross-entropy", "mse"] = "cross-entropy",
        protocol: Literal["sphere", "fixed-lr", "fixed-elr"] = "sphere",
        retraction: Literal["projection", "exponential"] | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        require_model(model)
        self.device = require_device(device)
        require_one_of("loss", loss, LOSSES)
        require_one_of("protocol", protocol, PROTOCOLS)
        if retraction is not None:
            require_one_of("retraction", retraction, RETRACTIONS)
        decay = require_not_negative("weight_decay", weight_decay)
        self.radius = require_positive("radius", radius)
        self.members = tuple(Member(one, seed) for one in _rates(lr) for seed in chosen_seeds(seeds))
        self.lr = torch.tensor([member.lr for member in self.members], dtype=torch.float64)
        self._model = _copy(model, initial_seed, self.radius)
        chosen: dict[str, Any] = {"protocol": protocol, "weight_decay": decay, "radius": self.radius}
        if retraction is not None:
            chosen["retraction"] = retraction
        training = TrainingConfig.checked({"iterations": 1, **chosen})
        self._kernel, self._parameter = lane_step_of(training), step_parameter(training)
        self._squared_error = loss == "mse"
        start = flatten(trained_parameters(self._model)).expand(len(self.members), -1)
        self._weights = start.to(self.device, copy=True)
        self._groups: list[_Group] = []
        self._image_shape: list[int] = []

    def __len__(self) -> int:
        return len(self.members)

    @property
    def weights(self) -> Tensor:
        """A copy of the members' weights, [members, D], in the order of the model's trained parameters."""
        return torch.cat([group.weights for group in self._groups]) if self._groups else self._weights.clone()

    def load_weights(self, weights: Any) -> None:
        """Set the members' weights, a tensor or array [members, D] in float32, finite and not all zero."""
        given = as_tensor_to_read("weights", weights).detach()
        if given.dtype is not torch.float32 or given.shape != self._weights.shape:
            raise ValueError(
                f"weights: must be float32 of the shape {list(self._weights.shape)}, "
                f"not {given.dtype} of {list(given.shape)}"
            )
        norms = given.double().norm(dim=1)
        if not bool((norms.isfinite() & (norms > 0)).all()):
            raise ValueError("weights: must be finite, and of each member some must not be zero")
        self._weights = given.to(self.device, copy=True)
        for group in self._groups:
            group.weights = self._weights[group.first : group.last]

    def step(self, images: Any, labels: Any) -> Tensor:
        """Make one step of SGD for each member, with a batch of its own.

        Parameters
        ----------
        images : Tensor or array [members, B, C, H, W]
            float32.
        labels : Tensor or array [members, B]
            int64.

        Returns
        -------
        Tensor [members]
            The losses, float64, before the step.

        Raises
        ------
        ValueError
            Naming the members that could not be moved, whose gradients were not finite for instance. Their
            weights are as before; all others were moved.
        """
        results = self._run(images, labels, LaneNetwork.losses_and_gradient)
        refused = [self._moved(group) for group in self._groups]
        failed = [f"{member}: {why}" for part in refused for member, why in part]
        if failed:
            raise ValueError(f"{len(failed)} of {len(self)} members were not moved: " + "; ".join(failed[:3]))
        return results

    def loss(self, images: Any, labels: Any) -> Tensor:
        """Return the losses [members], float64, of batches as `step` takes them; nothing is moved."""
        return self._run(images, labels, LaneNetwork.losses)

    def loss_and_gradient(self, images: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Return losses [members] in float64 and gradients [members, D] of batches as `step` takes them."""
        losses = self._run(images, labels, LaneNetwork.losses_and_gradient)
        return losses, torch.cat([group.gradient for group in self._groups])

    def network(self, member: int) -> nn.Module:
        """Return a member as a module of its own, a copy of the model with the member's weights."""
        number = require_integer("member", member, 0, len(self) - 1)
        model = copy.deepcopy(self._model)
        write_(trained_parameters(model), self.weights[number])
        return model

    def _run(self, images: Any, labels: Any, make: Callable[[LaneNetwork, Batch, bool], Pass]) -> Tensor:
        given, own = as_tensor_to_read("images", images).detach(), as_tensor_to_read("labels", labels)
        self._require_batches(given, own)
        self._build(list(given.shape[2:]))

        def run(group: "_Group") -> Tensor:
            batch = group.batch(given, own)
            return make(group.network, batch, self._squared_error).losses[: group.last - group.first]

        threads = min(len(self._groups), torch.get_num_threads())
        if threads == 1:
            return torch.cat([run(group) for group in self._groups])
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(run, self._groups)))

    def _require_batches(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype is not torch.float32 or images.ndim != 5 or len(images) != len(self):
            raise ValueError(
                f"images: must be float32 of the shape [{len(self)}, B, C, H, W], "
                f"not {images.dtype} of {list(images.shape)}"
            )
        if labels.dtype is not torch.int64 or labels.shape != images.shape[:2] or labels.shape[1] == 0:
            raise ValueError(
                f"labels: must be int64 of the shape {list(images.shape[:2])} of the images, with B >= 1, "
                f"not {labels.dtype} of {list(labels.shape)}"
            )
        if self._image_shape and list(images.shape[2:]) != self._image_shape:
            raise ValueError(
                f"images: those before had the shape {self._image_shape}, not {list(images.shape[2:])}"
            )

    def _build(self, image_shape: list[int]) -> None:
        if self._groups:
            return
        channels, height, width = image_shape
        program = read_program(self._model, (channels, height, width))
        on_device = self.device.type == "cuda"
        layout = Layout.on_device(len(self), self.device) if on_device else Layout.of_vector()
        groups = [
            _Group(program, layout, first, min(first + layout.members, len(self)), self.lr)
            for first in range(0, len(self), layout.members)
        ]
        for group in groups:
            group.weights = self._weights[group.first : group.last]
        self._groups, self._image_shape = groups, image_shape

    def _moved(self, group: "_Group") -> list[tuple[Member, str]]:
        group.network.step(self._kernel, group.lr, torch.full_like(group.lr, self._parameter))
        own, codes = self.members[group.first : group.last], group.network.status.tolist()
        return [(member, STEP_ERRORS[code]) for member, code in zip(own, codes, strict=False) if code != 0]


class _Group:
    """The members from ``first`` to before ``last``, which fill one vector or a part of it, or a device."""

    def __init__(self, program: Program, layout: Layout, first: int, last: int, lr: Tensor) -> None:
        self.first, self.last = first, last
        self.network = LaneNetwork(program, layout)
        empty = layout.members - (last - first)
        rates = torch.cat([lr[first:last], torch.zeros(empty, dtype=torch.float64)])
        self.lr = rates.to(layout.device)

    @property
    def weights(self) -> Tensor:
        return self.network.weights.get(self.last - self.first)

    @weights.setter
    def weights(self, weights: Tensor) -> None:
        self.network.weights.set(weights)

    @property
    def gradient(self) -> Tensor:
        return self.network.grad.get(self.last - self.first)

    def batch(self, images: Tensor, labels: Tensor) -> Batch:
        """Return its members' part of batches [members, B, ...] of all."""
        layout = self.network.layout
        own = images[self.first : self.last].to(layout.device)
        members, size = own.shape[:2]
        indices = torch.arange(members * size, device=layout.device).view(members, size)
        chosen = labels[self.first : self.last].to(layout.device)
        classes = len(self.network.program.head.weights)
        if bool(((chosen < 0) | (chosen >= classes)).any()):  # a device's kernels do not say so
            raise ValueError(f"labels: must be from 0 to {classes - 1}, the classes of the head")
        return Batch.of_members(layout, as_samples(own.flatten(0, 1)), indices, chosen)


def _rates(lr: Any) -> list[float]:
    try:
        rates = np.atleast_1d(np.asarray(lr, dtype=np.float64))
    except (TypeError, ValueError):
        raise TypeError(f"lr: must be learning rates, not {lr!r}") from None
    if rates.ndim != 1 or len(rates) == 0:
        raise ValueError(
            f"lr: must be one learning rate or a list of them, not of the shape {list(rates.shape)}"
        )
    return [float(rate) for rate in rates]


def _copy(model: nn.Module, initial_seed: int | None, radius: float) -> nn.Module:
    """Return a copy of a model at the point that all members start from."""
    params = trained_parameters(model)
    if not params:
        raise ValueError("model: has no trained weights, those that require a gradient")
    for param in model.parameters():
        if param.dtype is not torch.float32 or not param.is_cpu:
            raise TypeError(f"model: must be float32 on the CPU, not {param.dtype} on {param.device}")
    own = copy.deepcopy(model).train()
    if initial_seed is None:
        project_(trained_parameters(own), radius)
        return own
    initialize_(own, require_integer("initial_seed", initial_seed, 0, 2**63 - 1), radius=radius)
    for module, given in zip(own.modules(), model.modules(), strict=True):
        if isinstance(module, FrozenHead):
            module.load_state_dict(given.state_dict())
    return own
