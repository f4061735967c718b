"""The kernels of CUDA in the place of the CPU's, under the same tests: emulated, or on a device through copies."""

import contextlib
import pkgutil
from dataclasses import fields
from importlib import import_module

import emulation
import pytest
import torch

import pythermo as pt
from pythermo import _core
from pythermo.ops._backends import CUDA, KERNELS

for one in pkgutil.iter_modules(pt.ops.__path__):  # all kernels are in the table
    import_module(f"pythermo.ops.{one.name}")

ON_DEVICE = pytest.param("cuda", marks=pytest.mark.cuda)  # a device, where there is one
SCHEDULES = {"forward": 0, "backward": 1, "shuffled": 2}
DEVICE = "cuda"
STEPS = ("projected_sgd_step", "exponential_sgd_step", "fixed_lr_step", "fixed_elr_step")
_CPU = {key: kernel for key, kernel in KERNELS.items() if key[0] == "cpu"}


def emulate(monkeypatch, schedule="forward", **launch):
    """Let the CPU's tensors be worked on by CUDA's kernels in the emulation, launched so."""
    emulation.module().set_schedule(SCHEDULES[schedule])
    emulation.module().set_single_to_double_ratio(64)
    emulation.module().set_most_shared_bytes(100 * 1024)
    # A launch takes as long as it has threads.
    _replace(monkeypatch, emulation.module(), {"sphere_threads": 32, **launch}, lambda kernel: kernel)


def use_device(monkeypatch):
    """Let the CPU's tensors be worked on by CUDA's kernels, on copies on the current device."""
    _replace(monkeypatch, _core.cuda, {}, copying)


@contextlib.contextmanager
def cpu(monkeypatch):
    """Let the CPU's kernels work again."""
    with monkeypatch.context() as patch:
        for key, kernel in _CPU.items():
            patch.setitem(KERNELS, key, kernel)
        yield


def _replace(monkeypatch, native, launch, changed):
    for field in fields(CUDA):  # all of them, so that what a test sets is set back
        monkeypatch.setattr(CUDA, field.name, launch.get(field.name, getattr(CUDA, field.name)))
    monkeypatch.setattr(CUDA, "native", native)
    for (where, name), kernel in list(KERNELS.items()):
        if where == "cuda":
            run = raising(kernel) if name in STEPS else kernel
            monkeypatch.setitem(KERNELS, ("cpu", name), changed(run))


def raising(step):
    """Return a step that raises at once, as those of the CPU do."""

    def run(weights, *arguments):
        step(weights, *arguments)
        pt.ops.raise_failed_steps(weights[0].device)

    return run


def copying(kernel):
    """Return a kernel that takes the CPU's tensors to the device, works there, and brings them back."""

    def run(*arguments):
        copies = []
        result = kernel(*[_there(argument, copies) for argument in arguments])
        for here, there in copies:
            memory(here).copy_(memory(there))
        return result.cpu() if isinstance(result, torch.Tensor) else result

    return run


def _there(argument, copies):
    if isinstance(argument, torch.Tensor):
        copy = twin(argument, DEVICE)
        copies.append((argument, copy))
        return copy
    if isinstance(argument, list):
        return [_there(one, copies) for one in argument]
    if isinstance(argument, dict):
        return {name: one if name == "measure_at" else _there(one, copies) for name, one in argument.items()}
    return argument


def twin(tensor, device):
    """Return a copy that lies in the device's memory as the tensor does in its own: its offset, its strides."""
    copy = memory(tensor).to(device, copy=True)
    return copy.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


def memory(tensor):
    """Return all elements of the memory that a tensor is a view of."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())


def on_every_instruction_set_and_thread_count(compute):
    """Return what compute() gives on each instruction set that this processor has, on 1, 2 and 5 threads."""
    chosen, results = _core.chosen_instruction_set(), []
    try:
        for instruction_set in _core.instruction_sets():
            try:
                _core.choose_instruction_set(instruction_set)
            except ValueError:
                continue  # this processor lacks it
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(compute())
    finally:
        _core.choose_instruction_set(chosen)
        torch.set_num_threads(1)
    assert len(results) >= 3
    return results
