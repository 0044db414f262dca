"""How much SGD on n centers holds: chooses subsample, block and m_max so that a run fits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernelexp.engine.resource import (
    GB,
    SMALLEST_BLOCK,
    MemoryPlan,
    memory_limit,
    tile_numbers,
)
from kernelexp.engine.solvers.problem import Problem

_DEFAULT_SUBSAMPLE, _LARGE_SUBSAMPLE, _LARGE_N = 4000, 12_000, 100_000
_SMALLEST_SUBSAMPLE = 500


@dataclass(frozen=True)
class SGDPlan(MemoryPlan):
    """A memory plan and the sizes it was made for.

    Attributes:
        subsample_size: s of the Nystrom subsample.
        max_q: the most eigenpairs there is room for.
        block_size: rows of the kernel matrix computed together.
        max_batch_size: m_max.
    """

    subsample_size: int
    max_q: int
    block_size: int
    max_batch_size: int


def plan_sgd(
    problem: Problem,
    subsample_size: int | None = None,
    q: int | None = None,
    batch_size: int | None = None,
    corrects_all: bool = False,
) -> SGDPlan:
    """Choose s, the block and m_max so that training on n points fits; given sizes are kept.

    ``corrects_all``: the preconditioner has weights on all n points, not on the subsample.

    Raises:
        ValueError: where even the smallest plan does not fit; the message says what would.
    """
    (n, d), c, w = problem.X.shape, problem.Y.shape[1], problem.X.element_size()
    device, limits = problem.device, problem.limits
    process, limit = memory_limit(device, limits)

    def needs(s: int, B: int) -> dict[str, float]:
        rank, tiles = max_q(s), tile_numbers(n, device)
        model = 3 * n * c + n * rank + (n if corrects_all else s) * rank
        gathered = max(B, batch_size or 0) * (d + 3 * c + rank)
        return {
            "process": process / GB,
            "model": w * model / GB,
            "setup": w * (4.5 * s * s + s * d + n + tiles) / GB,
            "step": w * (B * B + gathered + 2 * n * c + tiles) / GB,
        }

    def max_q(s: int) -> int:
        return max(1, s // 10) if q is None else q

    def made(s: int, B: int, m_max: int) -> SGDPlan:
        return SGDPlan(needs(s, B), limit / GB, s, max_q(s), B, m_max)

    s = subsample_size or min(n, _DEFAULT_SUBSAMPLE if n <= _LARGE_N else _LARGE_SUBSAMPLE)
    B = min(limits.block_size or problem.block_size, n)
    smallest_B = limits.block_size or min(B, SMALLEST_BLOCK)
    smallest_s = subsample_size or min(n, _SMALLEST_SUBSAMPLE)
    while made(s, B, n).peak_gb * GB > limit:
        if smallest_B < B:
            B = max(smallest_B, B // 2)
        elif s > smallest_s:
            s = max(smallest_s, s // 2)
        else:
            need = made(s, B, n)
            raise ValueError(
                f"resource.memory_gb={limit / GB:.3g}: must be at least {need.peak_gb:.2f} for "
                f"n={n}, d={d}, {c} outputs, subsample of {s}: {need}; take fewer points "
                "(dataset.n_train), a smaller solver.subsample_size, or more memory"
            )
    room = (limit / GB - made(s, 0, n).peak_gb) * GB / w
    m_memory = int((math.sqrt((d + 3 * c) ** 2 + 4 * max(room, B * B)) - d - 3 * c) / 2)
    return made(s, B, min(limits.max_batch_size or n, max(m_memory, B), n))
