"""The resource G: what the device can hold and how many rows it takes to keep it busy.

Ma, Belkin 2019, section 3 chooses one number from it, the batch m_max = min(m_C, m_S), with
(d + c) m_C n = C_G operations at once and (d + c + m_S) n = S_G numbers of memory. Here

- m_C is measured: the block of rows from which on larger blocks are hardly faster. It becomes
  ``block_size`` and has no influence on the numbers a run produces, only on its speed.
- m_S follows from memory: blocks are never stored whole (``operator``), so a block of B rows costs
  B (B + d + 2 c) numbers, not B n. It becomes ``max_batch_size``, the m_max that limits q.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from kernelexp.engine import memory
from kernelexp.engine.checks import number
from kernelexp.engine.devices import tiling
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points

GB = 1e9
# Rows against which blocks are timed, the blocks tried, and the share of the best rate asked for.
_PROBE_ROWS = 4096
# Smaller blocks would do for the products; but each block ends with a pass over all predictions.
_BLOCKS = (1024, 2048, 4096)
# What memory may make of it.
SMALLEST_BLOCK = 256
_BUSY = 0.95


P = TypeVar("P", bound="MemoryPlan")


@dataclass(frozen=True)
class ResourceLimits:
    """What a run may take; null means measured.

    Attributes:
        memory_gb: the most memory (1e9 bytes) the process may hold.
        max_batch_size: m_max, the largest critical batch size the preconditioner aims at, and the
            largest batch.
        block_size: rows of the kernel matrix computed together.
        cache_gb: the most that kept rows of the kernel matrix may take; null: what is free.
    """

    memory_gb: float | None = None
    max_batch_size: int | None = None
    block_size: int | None = None
    cache_gb: float | None = None

    def __post_init__(self) -> None:
        number("memory_gb", self.memory_gb, above=0, optional=True)
        number("max_batch_size", self.max_batch_size, 1, whole=True, optional=True)
        number("block_size", self.block_size, 1, whole=True, optional=True)
        number("cache_gb", self.cache_gb, 0, optional=True)

    def accept(self, plan: MemoryPlan) -> None:
        """Told of a plan that fits, before the work it is for; who only wants the plan stops there."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a run will hold, decided before it starts.

    Attributes:
        gigabytes: what is held, by name, in GB (1e9 bytes): ``process`` (already), ``model``, then
            ``setup``, and after it ``step`` and ``cache`` (kernel rows that are kept).
        limit_gb: what may be held.
    """

    gigabytes: dict[str, float]
    limit_gb: float

    @property
    def peak_gb(self) -> float:
        """The most that is held at once."""
        held = self.gigabytes
        return held["process"] + held["model"] + max(held["setup"], self.step_gb)

    @property
    def step_gb(self) -> float:
        """What training holds beside the model."""
        return self.gigabytes["step"] + self.gigabytes.get("cache", 0)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size:.2f}" for name, size in self.gigabytes.items())
        return f"{self.peak_gb:.2f} GB of {self.limit_gb:.2f} GB ({parts})"


def plan_memory(
    device: torch.device, limits: ResourceLimits, what: str, instead: str, **numbers: float
) -> MemoryPlan:
    """A plan of given sizes in bytes: ``model``, ``setup``, ``step``, and what else is held.

    Raises:
        ValueError: where it does not fit; ``what`` says of which run, ``instead`` what to do.
    """
    process, limit = memory_limit(device, limits)
    held = {"process": process / GB, **{name: size / GB for name, size in numbers.items()}}
    plan = MemoryPlan(held, limit / GB)
    if plan.peak_gb > plan.limit_gb:
        raise ValueError(
            f"resource.memory_gb={limit / GB:.3g}: must be at least {plan.peak_gb:.2f} for {what}: "
            f"{plan}; {instead}, or more memory"
        )
    limits.accept(plan)
    return plan


def with_cache(
    plan: P, limits: ResourceLimits, n: int, row_bytes: float, passes: int
) -> tuple[P, int]:
    """The plan with as many of n more kernel rows kept as there is room for, and their number.

    ``passes``: how often the rows are needed; for one pass a part of them is not worth its memory.
    """
    held, kept = plan.gigabytes, plan.gigabytes.get("cache", 0)
    room = plan.limit_gb - held["process"] - held["model"] - plan.step_gb
    if limits.cache_gb is not None:
        room = min(room, limits.cache_gb - kept)
    rows = max(0, min(n, int(room * GB / row_bytes + 1e-6)))  # room may be a number of rows, in GB
    if passes == 1 and rows < n:
        rows = 0
    return replace(plan, gigabytes={**held, "cache": kept + rows * row_bytes / GB}), rows


def memory_limit(device: torch.device, limits: ResourceLimits) -> tuple[int, int]:
    """What the process holds and what it may hold, in bytes."""
    process = memory.held_bytes(device)
    if limits.memory_gb is None:
        return process, process + int(0.9 * memory.available_bytes(device))
    return process, int(limits.memory_gb * GB)


def tile_numbers(n: int, device: torch.device) -> int:
    """What the tiles of an operator and their temporaries hold, in numbers."""
    return 10 * min(tiling(device).tile, n) ** 2


def measure_block_size(
    kernel: Kernel, X: Tensor, precision: str = "auto", device: torch.device | None = None
) -> int:
    """m_C: the smallest block that reaches 95% of the best rate, in rows per second.

    Times K(X', X_B) @ W on up to 4,096 rows of X (n, d), the best of three for each block. A block of
    B rows also costs its own B x B matrix, hence a factor of 1 / (1 + B / n). ``precision``, ``device``:
    as in ``Points.of``.
    """
    first = Points.of(X[:_PROBE_ROWS], precision, device)
    last = Points.of(X[-_BLOCKS[-1] :], precision, device)
    blocks = [block for block in _BLOCKS if block <= len(X)] or [len(X)]
    rates = [
        max(_rate(kernel, first, last[slice(len(last) - block, None)]) for _ in range(3))
        for block in blocks
    ]
    rates = [rate / (1 + block / len(X)) for block, rate in zip(blocks, rates, strict=True)]
    return next(b for b, rate in zip(blocks, rates, strict=True) if rate >= _BUSY * max(rates))


def _rate(kernel: Kernel, X: Points, Z: Points) -> float:
    device = X.device
    K = BlockedKernel.on(kernel, device)(X, Z)
    start = clock(device)
    K.matmul(torch.zeros(len(Z), 1, dtype=Z.values.dtype, device=device))
    return len(Z) / (clock(device) - start)


def clock(device: torch.device) -> float:
    """Seconds, after all work queued on ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
