"""Where the kernels under test work, and a line for each check of them."""

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]  # these sources, not those that were installed

import pythermo.training.lanes  # noqa: E402, F401  whose kernels are in the table then
from pythermo.ops._backends import CUDA, KERNELS  # noqa: E402

FLOAT32, FLOAT64 = torch.float32, torch.float64


class Kernels:
    """The kernels of a type of device, as attributes by their names."""

    def __init__(self, device_type: str) -> None:
        self.table = {name: run for (where, name), run in KERNELS.items() if where == device_type}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self.table[name]


CPU, ON_CUDA = Kernels("cpu"), Kernels("cuda")


class Place:
    """A device with CUDA's kernels, or the CPU with their emulation.

    Parameters
    ----------
    fake : bool
        Put the emulation into the device's place.
    sizes : {"full", "small", "least"}
        Small is what the emulation and the sanitizers take seconds for; least what racecheck does.
    """

    def __init__(self, fake: bool, sizes: str) -> None:
        self.fake, self.sizes = fake, sizes
        self.failed = 0
        if fake:
            import emulation

            CUDA.native = emulation.module()
            CUDA.native.set_single_to_double_ratio(2)  # as on an H100
            CUDA.native.set_most_shared_bytes(227 * 1024)
            CUDA.sphere_threads = 32  # a launch takes as long as it has threads
        self.device = "cpu" if fake else "cuda"
        self.kernels = ON_CUDA

    def check(self, name: str, work: Callable[[], str | None]) -> None:
        """Do some work, which raises if something is wrong, and print what it says."""
        started = time.perf_counter()
        try:
            said, fine = work() or "", True
            self.wait()
        except Exception as error:
            said, fine = "".join(traceback.format_exception_only(error)).strip()[:300], False
            self.failed += 1
        print(
            f"{'ok  ' if fine else 'FAIL'} {name}: {said} ({time.perf_counter() - started:.2f} s)", flush=True
        )
        if not fine:
            self.abort_if_lost()

    def wait(self) -> None:
        if not self.fake:
            torch.cuda.synchronize()

    def abort_if_lost(self) -> None:
        """End here if every later check would fail for the fault of one."""
        try:
            self.wait()
        except RuntimeError as error:
            print(f"FAIL the device can be used no more: {error}", flush=True)
            sys.exit(2)

    @contextlib.contextmanager
    def in_place_of_the_cpu(self):
        """Let operations on the CPU's tensors be made by the emulation; nothing changes on a device."""
        taken = ON_CUDA if self.fake else CPU
        KERNELS.update({("cpu", name): run for name, run in taken.table.items()})
        try:
            yield
        finally:
            KERNELS.update({("cpu", name): run for name, run in CPU.table.items()})

    @contextlib.contextmanager
    def settings(self, **values):
        """Set what results must not depend on: threads of a block, workspaces, the longest row that is sorted."""
        before = {name: getattr(CUDA, name) for name in values}
        for name, value in values.items():
            setattr(CUDA, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(CUDA, name, value)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = FLOAT32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


class View:
    """Values in a tensor that begins some elements into its memory, with NaN before and after them."""

    def __init__(self, values: torch.Tensor, offset: int, device: str) -> None:
        size = values.numel()
        room = torch.full((offset + size + 8,), torch.nan, dtype=values.dtype, device=device)
        self.tensor = room[offset : offset + size].view(values.shape)
        self.tensor.copy_(values)
        self._around = room[:offset], room[offset + size :]

    def require_untouched_surroundings(self) -> None:
        assert all(bool(part.isnan().all()) for part in self._around), "written beside the tensor"


def within(error: float, limit: float, unit: str = "") -> str:
    """Return an error in words, or raise if it is beyond its limit."""
    said = f"{error:.2g}{unit}"
    assert error <= limit, f"{said}, more than {limit:.2g}{unit}"
    return said


def on_another_stream(work: Callable[[], object]) -> object:
    """Do some work on a stream of its own, between what came before and what comes after."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream().wait_stream(stream)
    return result
