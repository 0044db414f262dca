"""Randomly pivoted partial Cholesky factors: columns of K that stand for all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.linalg import eliminate_
from kernelexp.engine.memory import sent
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.engine.singular import zero_pivot
from kernelexp.engine.tiles import ranges

# Pivots proposed together.
BLOCK = 128
# Rows of X copied for their diagonal.
_ROWS = 1 << 14


@dataclass(frozen=True)
class PivotedFactor:
    """K(X, X) ~ F F^T, which is K(X, S) K(S, S)^-1 K(S, X) with S the pivots; in float64.

    Attributes:
        pivots: which of the n points they are, in their order, (r,), of the host.
        F: (n, r); of several ranks each has its own rows. Its rows of the pivots are lower triangular.
        left: the diagonal of K - F F^T, (n,), >= 0, likewise; what is rounding is 0.
    """

    pivots: Tensor
    F: Tensor
    left: Tensor


def rp_cholesky(
    kernel: BlockedKernel,
    points: Points,
    rank: int,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> PivotedFactor:
    """At most ``rank`` pivots, each drawn in proportion to the diagonal of K - F F^T, of n points.

    Chen, Epperly, Tropp, Webber 2022 (algorithm 1) one by one; here by blocks, as in Epperly, Tropp, Webber 2024
    (accelerated RPCholesky): 128 proposals are drawn by the diagonal at the beginning of the block, and in their
    order each is accepted with the probability (its entry by now) / (its entry then). So the pivots have the law of
    the algorithm one by one, in which the block's size does not occur. n r numbers, n r^2 operations, and n r
    entries of K.

    Differs from the papers in its end: an entry is 0 where it is rounding of its own entry of K, so that a point is
    not taken twice, nor one that repeats it, and there are no more pivots than K has numerical rank.
    """
    n, own = len(points), ranks.own(points)
    diagonal = _diagonal(kernel, own)
    zero = zero_pivot(n, diagonal.dtype)
    left, first = diagonal.clone(), ranks.part(n).start
    rank, done = min(rank, n), 0
    F = diagonal.new_empty(rank, len(own)).mT  # by columns, which are made by blocks
    pivots = torch.empty(0, dtype=torch.long)
    while done < rank:
        before = ranks.gather(torch.stack([left, zero * diagonal], 1), n).cpu()  # (n, 2)
        if not before[:, 0].sum() > 0:
            break
        block = _proposed(kernel, points, F[:, :done], before, rank - done, generator, ranks)
        at = sent(block.pivots, left.device)
        new = F[:, done : done + len(at)]
        kernel(points[at], own, dtype=F.dtype).dense(new.mT)
        new.addmm_(F[:, :done], block.rows.mT, alpha=-1)
        eliminate_(block.L, new)
        left -= torch.linalg.vector_norm(new, dim=1).square()
        left[left <= zero * diagonal] = 0
        spent = block.spent[ranks.owns(block.spent, n)] - first
        left[sent(spent, left.device)] = 0
        pivots = torch.cat([pivots, block.pivots])
        done = len(pivots)
    return PivotedFactor(pivots, F[:, :done], left)


def _diagonal(kernel: BlockedKernel, points: Points) -> Tensor:
    """k(x_i, x_i) (n,) in float64, of which differences are taken."""
    parts = [points[rows].to(torch.float64, points.device) for rows in ranges(len(points), _ROWS)]
    return torch.cat([kernel.diag(part) for part in parts])


@dataclass(frozen=True)
class _Block:
    """What is accepted of a block.

    Attributes:
        pivots: (k,), of the host.
        L: Cholesky factor of (K - F F^T) at the pivots, (k, k).
        rows: F at the pivots, (k, done).
        spent: proposals of which nothing is left, the pivots among them, (m,), of the host.
    """

    pivots: Tensor
    L: Tensor
    rows: Tensor
    spent: Tensor


def _proposed(
    kernel: BlockedKernel,
    points: Points,
    F: Tensor,
    before: Tensor,
    most: int,
    generator: torch.Generator,
    ranks: Ranks,
) -> _Block:
    """At most ``most`` of a block of proposals; ``before``: (n, 2), what is left and what of it is rounding."""

    def draw() -> Tensor:
        steps = before[:, 0].cumsum(0)
        at = torch.rand(BLOCK, generator=generator, dtype=steps.dtype) * steps[-1]
        return torch.searchsorted(steps, at, right=True).clamp_(max=len(steps) - 1)

    index = ranks.once(draw, generator)
    rows = sent(index, F.device)
    [F_S] = ranks.picked([F], index, rows, len(points))

    def accept() -> tuple[Tensor, Tensor, Tensor]:
        S = points[rows]
        H = kernel(S, S, dtype=F.dtype).dense().addmm_(F_S, F_S.mT, alpha=-1)
        return _accepted(H.cpu(), before[index, 0], before[index, 1], most, generator)

    chosen, L, spent = ranks.once(accept, generator)
    return _Block(index[chosen], L.to(F.device), F_S[sent(chosen, F.device)], index[spent])


def _accepted(
    H: Tensor, proposed: Tensor, zero: Tensor, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The proposals that are accepted (k,), their Cholesky factor (k, k), and those that are spent (m,).

    H (b, b) is K - F F^T at the proposals, which were drawn by ``proposed`` (b,); up to ``zero`` (b,) it is rounding.
    """
    L, left = torch.zeros_like(H), H.diagonal().clone()
    bar = torch.rand(len(H), generator=generator, dtype=H.dtype) * proposed
    chosen: list[int] = []
    for j in range(len(H)):
        if len(chosen) == most:
            break
        if not left[j] > torch.maximum(bar[j], zero[j]):
            continue
        k = len(chosen)
        column = (H[:, j] - L[:, :k] @ L[j, :k]) / left[j].sqrt()
        L[:, k] = column
        left -= column.square()
        chosen.append(j)
    spent = left <= zero
    spent[chosen] = True
    return torch.tensor(chosen, dtype=torch.long), L[chosen, : len(chosen)], spent.nonzero()[:, 0]
