"""The runs of a sweep that one process computes at a time: one, or several in lanes."""

import socket
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pythermo.config.member import Member
from pythermo.config.schema import RunConfig
from pythermo.ops.lanes_convolution import lanes_of_members
from pythermo.sweeps import files
from pythermo.sweeps.run import PROGRESS, Task, compute, is_finished

ERROR_LOG = "error.log"


@dataclass(frozen=True)
class Group:
    """Members of a sweep whose configuration, its engine settled, they share."""

    config: RunConfig
    members: tuple[Member, ...]

    def unfinished(self, folder: Path) -> list[Member]:
        """Return its members that are not finished in a sweep's folder."""
        return [member for member in self.members if not is_finished(folder / member.folder)]


def grouped(config: RunConfig, members: Sequence[Member], most: int, jobs: int) -> list[Group]:
    """Lay members over as few groups of at most so many as can be, but enough of them for all processes.

    Groups are of one size, or differ by one; which members are together changes no bit.
    """
    count = -(-len(members) // most)
    count = min(-(-count // jobs) * jobs, len(members))
    bounds = [len(members) * number // count for number in range(count + 1)]
    return [Group(config, tuple(members[first:last])) for first, last in pairwise(bounds)]


def run_group(group: Group, folder: Path, checkpoint_seconds: float) -> dict[Member, str]:
    """Compute the runs of a group in a worker and return the errors of those that failed."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"out: {folder} is not to be seen from {socket.gethostname()}; the folder of a sweep must "
            "lie on a file system that all workers share, at the same path"
        )
    failures: dict[Member, Exception] = {}
    tasks: dict[Member, Task] = {}
    with ExitStack() as held:
        for member in sorted(group.members):  # everywhere in one order: no two processes wait for each other
            own = folder / member.folder
            try:
                held.enter_context(files.exclusive(own))
            except OSError as error:
                failures[member] = error
                continue
            held.callback((own / PROGRESS).unlink, missing_ok=True)
            tasks[member] = Task(group.config.at(member), own, _ReportToFile(own / PROGRESS))
        _compute_all(list(tasks.values()), _at_once(group), checkpoint_seconds)
        failures |= {
            member: task.outcome for member, task in tasks.items() if isinstance(task.outcome, Exception)
        }
        for member in group.members:
            if member in failures:
                log_error(folder / member.folder, failures[member])
            else:
                (folder / member.folder / ERROR_LOG).unlink(missing_ok=True)
    return {member: described(error) for member, error in failures.items()}


def _at_once(group: Group) -> int:
    """Return how many of its runs are computed at a time here, where vectors may be shorter."""
    training = group.config.training
    if training.engine != "lanes":
        return 1
    return lanes_of_members() if training.device == "cpu" else len(group.members)


def _compute_all(tasks: list[Task], at_once: int, checkpoint_seconds: float) -> None:
    for first in range(0, len(tasks), at_once):
        part = tasks[first : first + at_once]
        try:
            compute(part, checkpoint_seconds)
        except Exception as error:
            for task in part:
                if task.outcome is None:
                    task.outcome = error


class _ReportToFile:
    """Leaves iteration and loss in a file: any process that shares the folder can show them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, iteration: int, loss: float) -> None:
        with suppress(OSError):  # a full disk: what cannot be shown need not end the run
            files.write_text(self._path, f"{iteration} {loss!r}")


def described(error: BaseException) -> str:
    """Return an error in a line."""
    return f"{type(error).__name__}: {error}"


def log_error(folder: Path, error: BaseException) -> None:
    """Leave the traceback of an error in a run's folder, if the disk has room for it."""
    with suppress(OSError):
        files.write_text(folder / ERROR_LOG, "".join(traceback.format_exception(error)))


def read_progress(folder: Path) -> tuple[int, float] | None:
    """Return the iteration and the loss of a run that a worker computes, None where they are not known."""
    try:
        iteration, loss = (folder / PROGRESS).read_text(encoding="utf-8").split()
        return int(iteration), float(loss)
    except (OSError, ValueError):  # what cannot be shown need not end the sweep
        return None
