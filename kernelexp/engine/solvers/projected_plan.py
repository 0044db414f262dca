"""How much projected SGD on p centers holds, and whether the factor of an exact projection fits."""

from __future__ import annotations

from kernelexp.engine.resource import MemoryPlan, memory_limit, plan_memory, tile_numbers
from kernelexp.engine.solvers.problem import Problem

# The share of the memory that is free which a factor of K(Z, Z) may take, where it is a choice.
_FACTOR_SHARE = 0.5


def projects_exactly(wanted: str, problem: Problem, p: int) -> bool:
    """Whether projections onto p centers are exact; ``auto`` asks the memory there is."""
    if wanted != "auto":
        return wanted == "exact"
    process, limit = memory_limit(problem.device, problem.limits)
    return problem.X.element_size() * p * p < _FACTOR_SHARE * (limit - process)


def plan_projected(problem: Problem, p: int, s: int, q: int, m: int, exact: bool) -> MemoryPlan:
    """The plan for p centers, q directions within the span of s of them and batches of m.

    Raises:
        ValueError: where it does not fit.
    """
    (n, d), c, w = problem.X.shape, problem.Y.shape[1], problem.X.element_size()
    s_inner = min(p, 4000)  # of EigenPro 2 on the centers
    inner = p * p + 512 * p if exact else 4 * p * c + (p + s_inner) * s_inner // 10
    tiles = tile_numbers(n, problem.device)
    return plan_memory(
        problem.device,
        problem.limits,
        f"{p} centers with {'an exact' if exact else 'an inexact'} projection",
        "take fewer centers (solver.n_centers), solver.projection=inexact or a smaller solver.q",
        model=w * (p * (d + 8 * c) + 3 * n * c + (n + p + s) * q + inner),
        setup=w * (4.5 * max(s, 0 if exact else s_inner) ** 2 + 4 * s * (d + 2 * q) + tiles),
        step=w * (2 * m * p + m * (d + 3 * c + q) + tiles),
    )
