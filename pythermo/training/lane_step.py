"""Steps of members side by side, each with its batch and learning rate; on a device as one CUDA graph."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pythermo.ops._steps import STEP_ERRORS
from pythermo.training.lane_layout import Batch
from pythermo.training.lanes import LaneNetwork
from pythermo.training.step_moments import StepNotes

# Steps before a capture, in which memory is allocated that is kept.
_WARM_UP = 2


class LaneSteps:
    """Makes steps, takes note of them, and counts for each member those in which it was moved.

    A member that was not moved, by a gradient that is not finite for instance, stays where it is in all steps
    that follow, until `refused` has told of it.

    Parameters
    ----------
    network : LaneNetwork
        The members.
    batch_of : callable
        Returns the batch of indices [members, B].
    kernel : str
        One of `pythermo.ops.lanes_step.STEPS`.
    parameters : sequence of float
        What that takes beside the learning rate, of each member.
    batch_size : int
        B.
    squared_error : bool
        The loss, or else cross-entropy.

    Attributes
    ----------
    unseen : int
        Steps since `refused` was asked.
    notes : StepNotes
        Products of weights and gradients.
    """

    def __init__(
        self,
        network: LaneNetwork,
        batch_of: Callable[[Tensor], Batch],
        kernel: str,
        parameters: Sequence[float],
        batch_size: int,
        squared_error: bool,
    ) -> None:
        layout = network.layout
        self._network, self._batch_of, self._kernel = network, batch_of, kernel
        self._squared_error = squared_error
        given = torch.tensor(parameters, dtype=torch.float64)
        self._parameter = layout.filled(given).to(layout.device)
        self._indices = torch.zeros(layout.members, batch_size, dtype=torch.int64, device=layout.device)
        self.notes = StepNotes(3 * layout.members, layout.device)
        self._rates: list[float] = []
        self._lr = layout.flat(dtype=torch.float64).zero_()
        self._moved = layout.flat(dtype=torch.int64).zero_()  # in how many of the unseen steps
        self._why = layout.flat(dtype=torch.int64).zero_()  # the first refusal
        self._graph: torch.cuda.CUDAGraph | None = None
        self.unseen = 0

    def make(self, indices: Sequence[Tensor], rates: list[float]) -> None:
        """Make a step with each member's batch, indices [B], at its learning rate; 0 lets it stay."""
        self._set(rates)
        torch.stack(list(indices), out=self._indices[: len(indices)])
        self._indices[len(indices) :] = indices[-1]
        if self._network.layout.device.type == "cuda":
            self._replay()
        else:
            self._make()
        self.unseen += 1
        self.notes.count()

    def refused(self) -> dict[int, tuple[str, int]]:
        """Return, of each member that was not moved, why, and in how many of the unseen steps it was not."""
        codes, moved = self._why.tolist(), self._moved.tolist()
        found = {
            member: (STEP_ERRORS[code], self.unseen - moved[member])
            for member, code in enumerate(codes)
            if code != 0
        }
        self._why.zero_()
        self._moved.zero_()
        self.unseen = 0
        return found

    def _set(self, rates: list[float]) -> None:
        if rates != self._rates:
            self._rates = list(rates)
            self._lr.copy_(torch.tensor(rates, dtype=torch.float64))

    def _make(self) -> None:
        network = self._network
        network.losses_and_gradient(self._batch_of(self._indices), self._squared_error)
        self.notes.note(network.take_products())
        network.step(self._kernel, torch.where(self._why == 0, self._lr, 0.0), self._parameter)
        self._why.copy_(torch.where(self._why == 0, network.status, self._why))
        self._moved += self._why == 0

    def _replay(self) -> None:
        with torch.cuda.device(self._network.layout.device):
            if self._graph is None:
                self._graph = self._captured()
            self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Return a step as a graph; the members are as before."""
        kept = [self._network.weights.flat, self._why, self._moved]
        before = [tensor.clone() for tensor in kept]
        beside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self._make()
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph, stream=beside):
            self._make()
        for tensor, values in zip(kept, before, strict=True):
            tensor.copy_(values)
        self.notes.start_over()
        return graph
