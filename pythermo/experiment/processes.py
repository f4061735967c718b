"""Processes of this machine for the runs of a sweep, one CUDA device each where there are several."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

# Forked processes would inherit torch's threads in an unknown state.
_SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch work on one thread, as a run of a sweep does: a second gains nothing on small networks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def devices_to_share(device: str) -> list[str]:
    """Return the CUDA devices over which runs on ``device`` are laid, as CUDA_VISIBLE_DEVICES names them.

    All that this process sees if ``device`` is "cuda"; none if it names one, or is the CPU.
    """
    if device != "cuda":
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(index) for index in range(count)]


def default_jobs(device: str) -> int:
    """Return how many runs on ``device`` this machine takes at a time: one per core, or per CUDA device."""
    if device == "cpu":
        return os.cpu_count() or 1
    return max(1, len(devices_to_share(device)))


class Processes(Executor):
    """Processes of this machine; one that is killed breaks off its own call only and is replaced.

    They end with this process however it ends, do not hear Ctrl-C, and are ended at once where the
    ``with`` block is left by an exception.

    Parameters
    ----------
    jobs : int
        Number of processes.
    devices : sequence of str
        CUDA devices: each process sees one of them only, in turn; all if there are none.
    """

    def __init__(self, jobs: int, devices: Sequence[str] = ()) -> None:
        self._workers = [_Worker(devices[i % len(devices)] if devices else None) for i in range(jobs)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # What these threads spawn inherits their signal mask.
        deaf = partial(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
        self._threads = ThreadPoolExecutor(jobs, initializer=deaf)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let a process call ``fn``; BrokenProcessPool is what a killed one leaves."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls and, if ``wait``, end the processes when all calls are done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for worker in self._workers:
                worker.end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.end()
        self.shutdown()

    def _call(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        worker = self._idle.get()
        try:
            return worker.call(fn, args, kwargs)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, spawned at its first call, and again at the next if it was killed."""

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._ended = False
        self._prepare()

    def call(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        try:
            return self._pool.submit(fn, *args, **kwargs).result()
        except BrokenProcessPool:
            self._lifeline.close()
            self._prepare()
            raise

    def end(self) -> None:
        """End the process, now and whenever one would be spawned again."""
        self._ended = True
        self._lifeline.close()

    def _prepare(self) -> None:
        theirs, self._lifeline = _SPAWN.Pipe(duplex=False)
        if self._ended:
            self._lifeline.close()
        self._pool = ProcessPoolExecutor(
            1, mp_context=_SPAWN, initializer=_begin, initargs=(theirs, self._device)
        )


def _begin(lifeline: Connection, device: str | None) -> None:
    """Prepare a process: before CUDA starts, and before its first call."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the lifeline is closed, by its owner or its owner's death."""
    lifeline.poll(None)
    os._exit(1)
