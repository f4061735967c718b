"""All checks that need a CUDA device, each with a limit in seconds: `make gpu-check`. Installs nothing.

python tests/gpu/check.py [--out DIR] [--total SECONDS] [STAGE[:SECONDS] ...]
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
TESTS, ROOT = HERE.parent, HERE.parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    "PYTHONUNBUFFERED": "1",
}
QUIET = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
PYTEST = [sys.executable, "-m", "pytest", *QUIET, "-m", "cuda", "--timeout", "60"]
SMOKE = [sys.executable, str(HERE / "smoke.py")]
LEAST_SECONDS = 5  # a stage with less time left is not begun


@dataclass(frozen=True)
class Stage:
    """A command, the seconds that it may take, and what its output must not hold."""

    name: str
    seconds: float
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    fault: Callable[[str], str] = lambda output: (
        ""
    )  # what is wrong by the output, though the command succeeded
    shown: int = 8  # lines
    on_request: bool = False  # only where it is named


def stages(out: Path) -> list[Stage]:
    return [
        Stage("machine", 30, ["bash", "-c", f"nvidia-smi; nvcc --version | tail -2; {ABOUT}"], shown=30),
        Stage("smoke", 90, SMOKE, fault=failed_checks),
        Stage("times", 240, [*TIMES, "--json", str(out / "times.json")], shown=70),
        # Warnings of other versions than ours fail no test here; those of training do below.
        Stage(
            "tests",
            180,
            [*PYTEST, "-o", "filterwarnings=default", "--durations", "8", *cuda_tests()],
            shown=15,
        ),
        sanitizer("memcheck", 60, ["--small"], "--error-exitcode", "9", *OURS),
        sanitizer("racecheck", 60, ["--least"], "--error-exitcode", "9", *OURS),
        sanitizer("synccheck", 60, ["--small"], "--error-exitcode", "9", *OURS),
        # Torch's kernels too: memory that they write is written.
        replace(sanitizer("initcheck", 90, ["--small"], "--print-limit", "10000"), fault=uninitialized_reads),
        Stage("warnings", 60, [*PYTEST, *TRAINING_TESTS]),
        Stage(
            "sweep",
            330,
            [*SWEEP, "--out", str(out / "convnet-fashion-mnist-up")],
            {"PYTHERMO_DATA": os.environ.get("PYTHERMO_DATA", str(ROOT / ".gpu" / "data"))},
            on_request=True,
        ),
    ]


ABOUT = f"{sys.executable} -m pythermo info; {sys.executable} -m pip list 2>/dev/null"
TIMES = [sys.executable, "-m", "pythermo.bench", "--device", "cuda"]
# All of Fashion-MNIST in four minutes: U, S, T and thermometers of 176 runs.
SWEEP = [sys.executable, "-m", "pythermo", "sweep", "convnet-fashion-mnist-up"]
SWEEP += ["--set", "run.training.device=cuda", "--set", "run.training.iterations=4000"]
OURS = ["--kernel-name", "kns=pythermo", "--print-limit", "20"]
TRAINING_TESTS = ["tests/training/test_cuda_run.py"]
GROUPS = {"sanitizer": ["memcheck", "racecheck", "synccheck", "initcheck"]}


def sanitizer(tool: str, seconds: float, sizes: list[str], *options: str) -> Stage:
    """Return the smoke test under a tool of compute-sanitizer, each allocation by itself."""
    command = ["compute-sanitizer", "--tool", tool, "--report-api-errors", "no", *options, *SMOKE, *sizes]
    return Stage(tool, seconds, command, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, shown=3)


def cuda_tests() -> list[str]:
    """Return the files with tests for a device: others may need packages that a machine has not."""
    needs = re.compile(r"mark\.cuda|backends\.CUDA|\bkernels\b")
    return [
        str(path.relative_to(ROOT))
        for path in sorted(TESTS.rglob("test_*.py"))
        if needs.search(path.read_text())
    ]


def failed_checks(output: str) -> str:
    """Return the lines of the smoke test that begin with FAIL."""
    return "\n".join(line for line in output.splitlines() if line.startswith("FAIL"))


def uninitialized_reads(output: str) -> str:
    """Return how often our kernels read what nobody wrote; what the host or torch's kernels read is their affair."""
    reads = re.findall(r"Uninitialized __global__ memory read[^\n]*\n[^\n]*pythermo", output)
    return f"{len(reads)} reads of memory that was not written" if reads else failed_checks(output)


@dataclass(frozen=True)
class Outcome:
    """What came of a stage: nothing is wrong where no fault is named."""

    stage: str
    seconds: float
    fault: str


def carry_out(stage: Stage, log: Path, seconds_left: float) -> Outcome:
    """Run a stage, append its output to the log, and print the end of it."""
    limit = min(stage.seconds, seconds_left)
    if limit < min(LEAST_SECONDS, stage.seconds):
        return Outcome(stage.name, 0.0, "did not run: no time is left")
    if shutil.which(stage.command[0]) is None:
        return Outcome(stage.name, 0.0, f"did not run: there is no {stage.command[0]} on the path")
    title = f"=== {stage.name}: {' '.join(stage.command)}"
    print(title, flush=True)
    started = time.monotonic()
    with log.open("a+b") as written:
        written.write(f"{title}\n".encode())
        written.flush()
        begin = written.tell()
        code = exit_code(stage, written, limit)
        written.seek(begin)
        output = written.read().decode(errors="replace")
    print(*(line[:220] for line in output.splitlines()[-stage.shown :]), sep="\n", flush=True)
    fault = f"did not end in {limit:.0f} s" if code is None else stage.fault(output)
    if code and not fault:
        fault = f"exit code {code}"
    return Outcome(stage.name, time.monotonic() - started, fault)


def exit_code(stage: Stage, output: IO[bytes], limit: float) -> int | None:
    """Run a stage's command, and end it with all that it has started after the limit: None then."""
    process = subprocess.Popen(
        stage.command,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT | stage.environment,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def chosen_stages(asked: list[str], known: list[Stage]) -> list[Stage]:
    """Return stages by their names, all if none is named, each with its limit or the one asked for."""
    by_name, chosen = {stage.name: stage for stage in known}, []
    for one in asked:
        name, _, seconds = one.partition(":")
        for part in GROUPS.get(name, [name]):
            if part not in by_name:
                raise ValueError(f"no such stage: {name}; there are {', '.join([*by_name, *GROUPS])}")
            stage = by_name[part]
            chosen.append(replace(stage, seconds=float(seconds)) if seconds else stage)
    return chosen or [stage for stage in known if not stage.on_request]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE[:SECONDS]", help="all if none is named")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "gpu-check", help="folder for whole outputs"
    )
    parser.add_argument("--total", type=float, default=3600.0, help="seconds for all stages together")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        chosen = chosen_stages(arguments.stages, stages(arguments.out.resolve()))
    except ValueError as error:
        parser.error(str(error))
    if not has_device():
        sys.exit("gpu-check did not run: torch finds no CUDA device")
    end, outcomes = time.monotonic() + arguments.total, []
    log = arguments.out / "log.txt"
    log.unlink(missing_ok=True)
    for stage in chosen:
        outcomes.append(carry_out(stage, log, end - time.monotonic()))
    print("===", *(f"{one.stage}: {one.seconds:.0f} s, {one.fault or 'fine'}" for one in outcomes), sep="\n")
    sys.exit(1 if any(one.fault for one in outcomes) else 0)


def has_device() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    main()
