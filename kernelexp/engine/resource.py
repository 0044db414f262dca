"""The resource G: what the device can hold and how many rows it takes to keep it busy.

Ma, Belkin 2019, section 3 chooses one number from it, the batch m_max = min(m_C, m_S), with
(d + c) m_C n = C_G operations at once and (d + c + m_S) n = S_G numbers of memory. Here

- m_C is measured: the block of rows from which on larger blocks are hardly faster. It becomes
  ``block_size`` and has no influence on the numbers a run produces, only on its speed.
- m_S follows from memory: blocks are never stored whole (``products``), so a block of B rows costs
  B (B + d + 2 c) numbers, not B n. It becomes ``max_batch_size``, the m_max that limits q.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine import memory
from kernelexp.engine.checks import number
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.products import kernel_matmul, tile_size

GB = 1e9
# Rows against which blocks are timed, the blocks tried, and the share of the best rate asked for.
_PROBE_ROWS = 4096
_BLOCKS = (256, 512, 1024, 2048, 4096)
_BUSY = 0.95
_DEFAULT_SUBSAMPLE, _LARGE_SUBSAMPLE, _LARGE_N = 4000, 12_000, 100_000
_SMALLEST_SUBSAMPLE = 500


@dataclass(frozen=True)
class ResourceLimits:
    """What a run may take; null means measured.

    Attributes:
        memory_gb: the most memory (1e9 bytes) the process may hold.
        max_batch_size: m_max, the largest critical batch size the preconditioner aims at, and the
            largest batch.
        block_size: rows of the kernel matrix computed together.
    """

    memory_gb: float | None = None
    max_batch_size: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        number("memory_gb", self.memory_gb, above=0, optional=True)
        number("max_batch_size", self.max_batch_size, 1, whole=True, optional=True)
        number("block_size", self.block_size, 1, whole=True, optional=True)


@dataclass(frozen=True)
class MemoryPlan:
    """What a run will hold, decided before it starts.

    Attributes:
        subsample_size: s of the Nystrom subsample.
        max_q: the most eigenpairs there is room for.
        block_size: rows of the kernel matrix computed together.
        max_batch_size: m_max.
        gigabytes: what is held, by name, in GB (1e9 bytes); set-up and step follow each other.
        limit_gb: what may be held.
    """

    subsample_size: int
    max_q: int
    block_size: int
    max_batch_size: int
    gigabytes: dict[str, float]
    limit_gb: float

    @property
    def peak_gb(self) -> float:
        """The most that is held at once."""
        held = self.gigabytes
        return held["process"] + held["model"] + max(held["setup"], held["step"])

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size:.2f}" for name, size in self.gigabytes.items())
        return f"{self.peak_gb:.2f} GB of {self.limit_gb:.2f} GB ({parts})"


def plan_memory(
    X: Tensor,
    n_outputs: int,
    limits: ResourceLimits,
    block_size: int,
    subsample_size: int | None = None,
    q: int | None = None,
    batch_size: int | None = None,
) -> MemoryPlan:
    """Choose s, the block and m_max so that training on X (n, d) fits; given sizes are kept.

    Raises:
        ValueError: where even the smallest plan does not fit; the message says what would.
    """
    n, d = X.shape
    w, c, device = X.element_size(), n_outputs, X.device
    process = memory.held_bytes(device)
    if limits.memory_gb is None:
        limit = process + int(0.9 * memory.available_bytes(device))
    else:
        limit = int(limits.memory_gb * GB)

    def needs(s: int, B: int) -> dict[str, float]:
        rank = max_q(s)
        tiles = 10 * min(tile_size(device), n) ** 2
        model = 3 * n * c + n * rank + s * rank
        gathered = max(B, batch_size or 0) * (d + 3 * c + rank)
        return {
            "process": process / GB,
            "model": w * model / GB,
            "setup": w * (4.5 * s * s + s * d + n + tiles) / GB,
            "step": w * (B * B + gathered + 2 * n * c + tiles) / GB,
        }

    def max_q(s: int) -> int:
        return max(1, s // 10) if q is None else q

    def made(s: int, B: int, m_max: int) -> MemoryPlan:
        return MemoryPlan(s, max_q(s), B, m_max, needs(s, B), limit / GB)

    s = subsample_size or min(n, _DEFAULT_SUBSAMPLE if n <= _LARGE_N else _LARGE_SUBSAMPLE)
    B = min(limits.block_size or block_size, n)
    smallest_B = limits.block_size or min(B, _BLOCKS[0])
    smallest_s = subsample_size or min(n, _SMALLEST_SUBSAMPLE)
    while made(s, B, n).peak_gb * GB > limit:
        if smallest_B < B:
            B = max(smallest_B, B // 2)
        elif s > smallest_s:
            s = max(smallest_s, s // 2)
        else:
            need = made(s, B, n)
            raise ValueError(
                f"resource.memory_gb={limit / GB:.2f}: must be at least {need.peak_gb:.2f} for "
                f"n={n}, d={d}, {c} outputs, subsample of {s}: {need}; take fewer points "
                "(dataset.n_train), a smaller solver.subsample_size, or more memory"
            )
    room = (limit / GB - made(s, 0, n).peak_gb) * GB / w
    m_memory = int((math.sqrt((d + 3 * c) ** 2 + 4 * max(room, B * B)) - d - 3 * c) / 2)
    return made(s, B, min(limits.max_batch_size or n, max(m_memory, B), n))


def measure_block_size(kernel: Kernel, X: Tensor) -> int:
    """m_C: the smallest block that reaches 95% of the best rate, in rows per second.

    Times K(X', X_B) @ W on up to 4,096 rows of X (n, d), the best of three for each block. A block of
    B rows also costs its own B x B matrix, hence a factor of 1 / (1 + B / n).
    """
    rows = X[:_PROBE_ROWS]
    blocks = [block for block in _BLOCKS if block <= len(X)] or [len(X)]
    rates = [max(_rate(kernel, rows, X[-block:]) for _ in range(3)) for block in blocks]
    rates = [rate / (1 + block / len(X)) for block, rate in zip(blocks, rates, strict=True)]
    return next(b for b, rate in zip(blocks, rates, strict=True) if rate >= _BUSY * max(rates))


def _rate(kernel: Kernel, X: Tensor, Z: Tensor) -> float:
    start = clock(X.device)
    kernel_matmul(kernel, X, Z, Z.new_zeros(len(Z), 1))
    return len(Z) / (clock(X.device) - start)


def clock(device: torch.device) -> float:
    """Seconds, after all work queued on ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
