"""Processes of this machine for the runs of a sweep, one CUDA device each where there are several.

A pool of our own: concurrent.futures' breaks as a whole when one of its processes is killed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Forked processes would inherit torch's threads in an unknown state.
_SPAWN = multiprocessing.get_context("spawn")


class ProcessNotStartedError(RuntimeError):
    """A process ended before it could take its first call."""

    def __init__(self) -> None:
        super().__init__(
            'put the call under `if __name__ == "__main__":`; a process of the sweep ended while it started, '
            "where it imports the script that called. If the script has that line, what the process wrote "
            "says why it ended, or it was killed for lack of memory"
        )


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
            begun = self._ended or self._begun.poll()
            self._lifeline.close()
            self._prepare()
            if not begun:
                raise ProcessNotStartedError from None
            raise

    def end(self) -> None:
        """End the process, now and whenever one would be spawned again."""
        self._ended = True
        self._lifeline.close()

    def _prepare(self) -> None:
        theirs, self._lifeline = _SPAWN.Pipe(duplex=False)
        self._begun, says_begun = _SPAWN.Pipe(duplex=False)
        if self._ended:
            self._lifeline.close()
        self._pool = ProcessPoolExecutor(
            1, mp_context=_SPAWN, initializer=_begin, initargs=(theirs, says_begun, self._device)
        )


def is_starting() -> bool:
    """Return whether this process is a spawned one that still imports its parent's script."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _begin(lifeline: Connection, begun: Connection, device: str | None) -> None:
    """Prepare a process: before CUDA starts, and before its first call."""
    begun.send(True)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the lifeline is closed, by its owner or its owner's death."""
    lifeline.poll(None)
    os._exit(1)
