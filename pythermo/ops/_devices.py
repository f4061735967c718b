"""Devices by their names, and what is free on them."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from pythermo import _core
from pythermo.ops._backends import CUDA


def require_device(device: str) -> torch.device:
    """Return the device of a name, with its number, or raise ValueError saying why there is none."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        found = torch.device("meta")
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type != "cuda":
        raise ValueError(f"device: must be cpu, cuda or cuda:N, not {device!r}")
    reason = _why_no_cuda(found)
    if reason:
        raise ValueError(f"device: {device} cannot be used: {reason}")
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


def free_memory(device: torch.device) -> int:
    """Return how many bytes are free on a device."""
    if device.type == "cpu":
        available: int = psutil.virtual_memory().available
        return available
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


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
    """Return how many runs on ``device`` go at a time: one per core of this process, or per CUDA device."""
    if device == "cpu":
        return usable_cores()
    return max(1, len(devices_to_share(device)))


def usable_cores(mount: Path = Path("/sys/fs/cgroup"), cgroups: Path = Path("/proc/self/cgroup")) -> int:
    """Return on how many cores this process may run: by its affinity and the quotas of its cgroups."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(mount, cgroups)]
    return max(1, min([cores, *quotas]))


def _quotas(mount: Path, cgroups: Path) -> Iterator[float]:
    """Yield the quotas in cores that a process is under: those of its groups and of all above them."""
    for line in (_words(cgroups) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / controllers if controllers else mount
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            both = _words(folder / "cpu.max") or (
                f"{_words(folder / 'cpu.cfs_quota_us')} {_words(folder / 'cpu.cfs_period_us')}"
            )
            with suppress(ValueError):  # "max", or no such file: no quota
                quota, period = map(int, both.split())
                if quota > 0 and period > 0:
                    yield quota / period


def _words(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def _why_no_cuda(device: torch.device) -> str:
    if CUDA.native is None:
        return "pythermo was built without CUDA"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return f"no CUDA device was found ({_core.cuda_description()})"
    if device.index is not None and device.index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} CUDA devices, counted from 0"
    return ""
