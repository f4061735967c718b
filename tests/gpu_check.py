"""The tests on a CUDA device, under compute-sanitizer too, and the benchmark: `make gpu-check`."""

import os
import shutil
import subprocess
import sys

import torch

# Each allocation by itself, so that a read beyond one is seen.
SANITIZED = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
PYTEST = [sys.executable, "-m", "pytest", "-q", "-m", "cuda"]
KERNEL_TESTS = ["tests/ops", "tests/sphere"]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu-check did not run: torch finds no CUDA device")
    failed = run(PYTEST)
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ("memcheck", "racecheck", "initcheck"):
        if sanitizer is None:
            print(f"{tool} did not run: there is no compute-sanitizer on the path")
            failed = True
            continue
        options = ["--tool", tool, "--error-exitcode", "9"]
        failed |= run([sanitizer, *options, *PYTEST, *KERNEL_TESTS], SANITIZED)
    failed |= run([sys.executable, "-m", "pythermo.bench", "--device", "cuda"])
    sys.exit(1 if failed else 0)


def run(command: list[str], environment: dict[str, str] | None = None) -> bool:
    """Run a command and return whether it failed."""
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, env=environment, check=False).returncode != 0


if __name__ == "__main__":
    main()
