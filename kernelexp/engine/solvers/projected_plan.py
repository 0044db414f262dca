"""How much projected SGD on p centers holds, and whether the factor of an exact projection fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from kernelexp.engine.batch import BatchRule
from kernelexp.engine.centers import CenterRule
from kernelexp.engine.checks import number
from kernelexp.engine.plan import GB, Limits, Plan, Sizes, plan_memory, tile_numbers, with_cache
from kernelexp.engine.singular import largest_rank
from kernelexp.engine.solvers.eigenpro2 import EigenPro2

# The share of the memory that is free which a factor of K(Z, Z) may take, where it is a choice.
_FACTOR_SHARE = 0.5
_SUBSAMPLE, _MOST_Q = 2000, 500


def plan_projected(
    solver: str,
    sizes: Sizes,
    limits: Limits,
    device: torch.device,
    *,
    rule: CenterRule,
    s: int | None,
    q: int | None,
    m: int | None,
    projection: str,
    projection_epochs: int,
    batch_rule: Callable[[bool], BatchRule],
    passes: int,
) -> Plan:
    """The plan for p centers by a rule; sizes that are None are chosen: of the subsample, q, the batch.

    Raises:
        ValueError: where it does not fit, or a size exceeds the data.
    """
    n, d, c, w, p = sizes.n, sizes.d, sizes.c, sizes.itemsize, rule.count(sizes.n)
    number("resource.ranks", sizes.ranks, 1, p, whole=True)  # each has some of the centers
    number("solver.subsample_size", s, 2, p, whole=True, optional=True)
    s = s or min(p, _SUBSAMPLE)
    number("solver.q", q, 0, s - 1, whole=True, optional=True)
    q = min(s - 1, _MOST_Q) if q is None else q
    exact = _projects_exactly(projection, limits, w * p * p)
    most = limits.asked.max_batch_size or n
    # The data points that know the spectrum, 4 s, say little of larger batches.
    m = min(m or min(batch_rule(exact)(1.0, 8.0 * s, n, most), 4 * s), n, most)
    s_inner = min(p, 4000)  # of EigenPro 2 on the centers
    inner = p * p + 512 * p if exact else 4 * p * c + (p + s_inner) * s_inner // 10
    tiles, own, own_n = tile_numbers(n, device), sizes.own(p), sizes.own(n)

    def made(m: int) -> Plan:
        return plan_memory(
            solver,
            limits,
            device,
            f"{p} centers with {'an exact' if exact else 'an inexact'} projection",
            "take fewer centers (solver.n_centers), solver.projection=inexact or a smaller solver.q",
            model=w * (p * (d + 8 * c) + 3 * n * c + (own_n + own + s) * q + inner),
            setup=max(
                w * (4.5 * max(s, 0 if exact else s_inner) ** 2 + 4 * s * (d + 2 * q) + tiles),
                rule.bytes_to_choose(sizes, device),
            ),
            step=w * (2 * m * own + m * (d + 3 * c + q) + tiles),
        )

    plan = made(m)
    # Of K(Z, Z) where that is singular; it is taken apart before rows are kept.
    room = (plan.limit_gb - plan.gigabytes["process"] - plan.gigabytes["model"]) * GB
    row_bytes = w * own
    plan, keep = with_cache(plan, limits.asked, n, row_bytes, passes)
    plan = replace(
        plan,
        n_centers=p,
        subsample_size=s,
        max_q=q,
        max_batch_size=m,
        kept_rows=keep,
        max_rank=largest_rank(room, p, w) if exact else 0,
    )
    if exact:
        return plan
    # Each epoch of each projection needs K(Z, Z).
    plan, spare = with_cache(plan, limits.asked, p, row_bytes, passes=projection_epochs + 1)
    on_centers = replace(limits, asked=replace(limits.asked, cache_gb=spare * row_bytes / GB))
    inner_plan = EigenPro2().plan(replace(sizes, n=p, distinct=p), on_centers, device)
    return replace(plan, projection=inner_plan)


def _projects_exactly(wanted: str, limits: Limits, factor_bytes: int) -> bool:
    """Whether projections are exact; ``auto`` asks the memory there is."""
    if wanted != "auto":
        return wanted == "exact"
    return factor_bytes < _FACTOR_SHARE * (limits.allowed - limits.held)
