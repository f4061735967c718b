"""What the compiler says of each CUDA kernel: registers, shared memory, stack and spills by architecture.

Writes a Markdown table, and exits with 1 if a kernel spills or keeps anything in local memory.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("75", "80", "90", "100", "120")


@dataclass(frozen=True)
class Usage:
    kernel: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spilled: int


def options_of(source: Path) -> list[str]:
    """Return the options that CMakeLists.txt adds for one source."""
    text = (ROOT / "CMakeLists.txt").read_text()
    found = re.search(
        rf"set_source_files_properties\(csrc/cuda/{source.name}\s[^)]*COMPILE_OPTIONS ([^)]*)\)", text
    )
    return found[1].split() if found else []


def compile_verbosely(nvcc: str, source: Path, architecture: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            nvcc, "-std=c++20", "-O3", *options_of(source), f"-arch=sm_{architecture}", "-Xptxas=-v",
            "-c", str(source), "-o", f"{folder}/kernel.o",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "warning" in done.stderr:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def short_name(mangled: str) -> str:
    """Return a kernel's name with its template arguments, without namespaces and parameters."""
    plain = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    plain = re.sub(
        r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|pythermo::|cuda::|sphere::|^void ", "", plain
    )
    return re.sub(r">\(.*$|\(.*$", lambda found: ">" if found[0].startswith(">") else "", plain, count=1)


def usages(output: str, architecture: str) -> list[Usage]:
    pattern = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        re.DOTALL,
    )
    rows = []
    for name, stack, stores, loads, registers, rest in pattern.findall(output):
        shared = re.search(r"(\d+) bytes smem", rest)
        rows.append(
            Usage(
                short_name(name),
                architecture,
                int(registers),
                int(shared[1]) if shared else 0,
                int(stack),
                int(stores) + int(loads),
            )
        )
    return rows


def table(rows: list[Usage], version: str) -> str:
    lines = [
        "# What the compiler says of the CUDA kernels",
        "",
        f"`make cuda-report`, {version}. Registers a thread by architecture; *static* shared memory, *stack*",
        "and *spills* are the largest over the architectures, in bytes. Dynamic shared memory is asked for",
        "at launch (docs/cuda.md).",
        "",
        "| kernel | " + " | ".join(f"sm_{a}" for a in ARCHITECTURES) + " | static | stack | spills |",
        "|---" * (len(ARCHITECTURES) + 4) + "|",
    ]
    for kernel in dict.fromkeys(row.kernel for row in rows):
        own = [row for row in rows if row.kernel == kernel]
        registers = {row.architecture: str(row.registers) for row in own}
        cells = [registers.get(a, "") for a in ARCHITECTURES]
        most = [max(getattr(row, name) for row in own) for name in ("shared", "stack", "spilled")]
        lines.append(f"| `{kernel}` | " + " | ".join([*cells, *map(str, most)]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "cuda-kernels.md")
    arguments = parser.parse_args()
    version = subprocess.run([arguments.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    rows = [
        usage
        for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
        for architecture in ARCHITECTURES
        for usage in usages(compile_verbosely(arguments.nvcc, source, architecture), architecture)
    ]
    arguments.out.write_text(table(rows, re.search(r"release [\d.]+, V[\d.]+", version)[0]))
    print(f"wrote {arguments.out}: {len(rows)} kernels")
    bad = [row for row in rows if row.stack or row.spilled]
    for row in bad:
        print(f"{row.kernel}, sm_{row.architecture}: {row.stack} bytes of stack, {row.spilled} spilled")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
