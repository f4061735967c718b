"""What a run sets aside for its own time of its surroundings: global state of torch and numpy."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@contextmanager
def own_settings(threads: int | None = 1) -> Iterator[None]:
    """Set the caller's settings aside, so that what is computed depends on its configuration alone.

    Autocast, inference and grad mode, default dtype and device, the precision of float32 products, flags of
    determinism, of cuDNN and of oneDNN, anomaly detection, denormal numbers and numpy's errors are as in a
    fresh process, but for cuDNN, which takes algorithms that give the same bits each time, in full float32.
    All are found again as they were, after an error too. Function and dispatch modes stay, for who enters one
    wants to see or to change what torch does; so do filters of warnings, which change no number. Within the
    block of another one nothing happens.

    Parameters
    ----------
    threads : int, optional
        Number of torch's threads; those of the caller if None. A sweep's runs take one: a second gains
        nothing on small networks, and sums of torch's depend on how many there are.
    """
    if getattr(_thread, "inside", False):
        yield
        return
    with ExitStack() as aside:
        aside.enter_context(_of_process())
        if threads is not None:
            aside.callback(torch.set_num_threads, _of_process.threads)
            torch.set_num_threads(threads)
        for device in ("cpu", "cuda"):
            aside.enter_context(torch.autocast(device, enabled=False))
        aside.enter_context(torch.inference_mode(False))
        aside.enter_context(torch.enable_grad())
        aside.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if torch.get_default_device().type != "cpu":
            aside.enter_context(torch.device("cpu"))
        if sys.float_info.min / 2.0 == 0.0:
            aside.callback(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        aside.callback(setattr, _thread, "inside", False)
        _thread.inside = True
        yield


_thread = threading.local()


@dataclass(frozen=True)
class _Setting:
    """One setting of the whole process: how it is read and written, and its value for a run."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    own: Any

    def set(self, value: Any) -> None:
        """Write a value that it does not have yet; some are written by importing half of torch."""
        if self.read() != value:
            self.write(value)


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _set_anomaly(mode: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*mode)


def _attribute(owner: Any, name: str, own: Any) -> list[_Setting]:
    """Return the setting of an attribute, if this version of torch has it."""
    if getattr(owner, name, None) is None:
        return []
    return [_Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), own)]


# What the first ones set, the next ones may change: they are read together and written in this order.
_SETTINGS = [
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(_determinism, _set_determinism, (False, False)),
    _Setting(_anomaly, _set_anomaly, (False, True)),
    _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    *_attribute(torch.backends, "fp32_precision", "none"),
    *(
        setting
        for part in ("matmul", "conv")
        for setting in _attribute(getattr(torch.backends.mkldnn, part, None), "fp32_precision", "ieee")
    ),
    *_attribute(torch.backends.mkldnn, "enabled", True),
]


class _OfProcess:
    """Sets aside what all threads share: by the first run that begins, until the last one ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._aside = ExitStack()
        self.threads = 1

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._runs == 0:
                self._set_aside()
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
                if self._runs == 0:
                    self._aside.close()

    def _set_aside(self) -> None:
        self.threads = torch.get_num_threads()
        before = [setting.read() for setting in _SETTINGS]
        with ExitStack() as aside:
            for setting, value in reversed(list(zip(_SETTINGS, before, strict=True))):
                aside.callback(setting.set, value)  # which are called from the last one on
            aside.enter_context(
                torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                )
            )
            for setting in _SETTINGS:
                setting.set(setting.own)
            self._aside = aside.pop_all()


_of_process = _OfProcess()
