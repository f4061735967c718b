"""The sphere simulator against the paper's way, a torch autograd loop, and against a numba kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pythermo import sphere
from pythermo.bench.timing import median_seconds
from pythermo.sphere.systems import System

LR = 0.1
AUTOGRAD_LRS, AUTOGRAD_STEPS = 80, 4


@dataclass(frozen=True)
class ToyResult:
    """Chain-steps per second of the underparameterized toy, float64; numba is NaN where not installed."""

    chains: int
    threads: int
    autograd: float
    numba: float
    pythermo: float

    @property
    def against_autograd(self) -> float:
        """How many times faster than the autograd loop."""
        return self.pythermo / self.autograd

    @property
    def against_numba(self) -> float:
        """How many times faster than the numba kernel."""
        return self.pythermo / self.numba


@dataclass(frozen=True)
class CostResult:
    """Cost of a chain-step, and the share of the arithmetic peak that the step's arithmetic reaches.

    ``operations`` counts additions, multiplications, divisions and square roots of one step, without those
    of its random numbers; the peak is that of torch's matrix product in float64, measured beside it.
    """

    system: str
    dim: int
    chains: int
    threads: int
    seconds: float
    operations: int
    peak: float

    @property
    def share_of_peak(self) -> float:
        """Operations per second of this over those of the matrix product."""
        return self.operations / self.seconds / self.peak


def autograd_loop(system: sphere.Quadratics, lrs: int, steps: int) -> None:
    """Step one chain after the other, the gradient by torch's autograd."""
    vectors = torch.from_numpy(np.array(system.vectors))
    for _ in range(lrs):
        w = torch.tensor(sphere.PAPER_START, requires_grad=True)
        for index in torch.randint(len(vectors), (steps,)):
            loss = (vectors[index] @ w) ** 2 / (w @ w)
            (grad,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                moved = w - LR * grad
                w = (moved / moved.norm()).requires_grad_()


def numba_kernel() -> Callable[[NDArray[Any], NDArray[Any], float, int, int], None] | None:
    """Return a parallel numba kernel of the same arithmetic and the same draws, or None without numba."""
    try:
        import numba
    except ImportError:
        return None
    low, u32, u64 = numba.uint64(0xFFFFFFFF), numba.uint32, numba.uint64

    @numba.njit(inline="always")
    def four_words(seed: int, replica: int, position: int) -> Any:
        c0, c1, c2, c3 = u64(position) & low, u64(position) >> u64(32), u64(replica), u64(0)
        k0, k1 = u32(seed), u32(u64(seed) >> u64(32))
        for _ in range(10):
            p0, p1 = u64(0xD2511F53) * c0, u64(0xCD9E8D57) * c2
            c0, c2 = (p1 >> u64(32)) ^ c1 ^ u64(k0), (p0 >> u64(32)) ^ c3 ^ u64(k1)
            c1, c3 = p1 & low, p0 & low
            k0, k1 = u32(k0 + u32(0x9E3779B9)), u32(k1 + u32(0xBB67AE85))
        return c0, c1, c2, c3

    @numba.njit(parallel=True)
    def run(vectors: Any, weights: Any, lr: float, steps: int, seed: int) -> None:
        samples = u64(len(vectors))
        for chain in numba.prange(len(weights)):
            x, y, z = weights[chain]
            words = four_words(seed, chain, 0)
            for step in range(steps):
                if step % 4 == 0:
                    words = four_words(seed, chain, step // 4)
                place = step % 4
                drawn = words[0]
                if place == 1:
                    drawn = words[1]
                elif place == 2:
                    drawn = words[2]
                elif place == 3:
                    drawn = words[3]
                index = (drawn * samples) >> u64(32)
                vx, vy, vz = vectors[index, 0], vectors[index, 1], vectors[index, 2]
                a = vx * x + vy * y + vz * z
                scaled = 2.0 * a
                keep = scaled * a * lr + 1.0
                x, y, z = (
                    keep * x - lr * (scaled * vx),
                    keep * y - lr * (scaled * vy),
                    keep * z - lr * (scaled * vz),
                )
                scale = 1.0 / np.sqrt(x * x + y * y + z * z)
                x, y, z = x * scale, y * scale, z * scale
            weights[chain, 0], weights[chain, 1], weights[chain, 2] = x, y, z

    return _keeping_torch_threads(run)


def _keeping_torch_threads(kernel: Callable[..., None]) -> Callable[..., None]:
    """Return a kernel of numba's, whose OpenMP sets the number of torch's threads when it starts."""

    def call(*arguments: Any) -> None:
        before = torch.get_num_threads()
        try:
            kernel(*arguments)
        finally:
            torch.set_num_threads(before)

    return call


def measure_toy(chains: int, steps: int, rounds: int) -> ToyResult:
    """Measure the three ways on the underparameterized toy."""
    system, threads = sphere.underparameterized(), torch.get_num_threads()
    weights = np.tile(sphere.PAPER_START, (chains, 1))
    contenders: dict[str, Callable[[], object]] = {
        "autograd": lambda: autograd_loop(system, AUTOGRAD_LRS, AUTOGRAD_STEPS),
        "pythermo": lambda: _simulate(system, chains, steps, threads),
    }
    kernel = numba_kernel()
    if kernel is not None:
        import numba

        numba.set_num_threads(threads)
        contenders["numba"] = lambda: kernel(system.vectors, weights, LR, steps, 0)
    seconds = median_seconds(contenders, rounds, 0.1)
    rate = chains * steps
    return ToyResult(
        chains,
        threads,
        autograd=AUTOGRAD_LRS * AUTOGRAD_STEPS / seconds["autograd"],
        numba=rate / seconds["numba"] if "numba" in seconds else float("nan"),
        pythermo=rate / seconds["pythermo"],
    )


def measure_costs(rounds: int, chain_steps: int, chain_counts: Sequence[int]) -> list[CostResult]:
    """Measure the cost of a chain-step by dimension, by number of chains, and for noise."""
    threads = torch.get_num_threads()
    matrix = torch.rand(1024, 1024, dtype=torch.float64)
    results = []
    for dim in (3, 16, 256):
        rows = np.random.default_rng(0).normal(size=(dim, dim))
        quadratics = sphere.Quadratics(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        systems: dict[str, System] = {"Quadratics": quadratics}
        if dim == 3:
            systems["Quadratics"] = sphere.underparameterized()
        systems["IsotropicNoise"] = sphere.IsotropicNoise(dim, 1.0)
        for name, system in systems.items():
            # Quadratics: dot, y, move, norm, scale; noise: y, dot, move, norm, scale.
            operations = 2 * dim + dim + 3 * dim + 2 * dim + dim + 6
            for chains in chain_counts:
                steps = max(32, chain_steps // (chains * dim))  # fewer would be lost in the start
                seconds = median_seconds(
                    {
                        "run": lambda: _simulate(system, chains, steps, threads),  # noqa: B023
                        "peak": lambda: matrix @ matrix,
                    },
                    rounds,
                    0.05,
                )
                peak = 2 * 1024**3 / seconds["peak"]
                cost = seconds["run"] / (chains * steps)
                results.append(CostResult(name, dim, chains, threads, cost, operations, peak))
    return results


def _simulate(system: System, chains: int, steps: int, threads: int) -> object:
    return sphere.simulate(system, LR, steps, replicas=chains, measure_at=[], threads=threads)


def toy_table(results: list[ToyResult]) -> str:
    """Return the rates as a Markdown table."""
    lines = [
        "| chains | threads | torch autograd (chain-steps/s) | numba | pythermo | x autograd | x numba |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.chains} | {r.threads} | {r.autograd:.3g} | {r.numba:.3g} | {r.pythermo:.3g} "
        f"| {r.against_autograd:.0f} | {r.against_numba:.1f} |"
        for r in results
    ]
    return "\n".join(lines)


def cost_table(results: list[CostResult]) -> str:
    """Return the costs as a Markdown table."""
    lines = [
        "| system | D | chains | threads | ns per chain-step | operations | of float64 peak |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.system} | {r.dim} | {r.chains} | {r.threads} | {1e9 * r.seconds:.2f} | {r.operations} "
        f"| {100 * r.share_of_peak:.0f} % |"
        for r in results
    ]
    return "\n".join(lines)
