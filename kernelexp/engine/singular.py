"""Singular kernel matrices: points that coincide, the numerical rank, least squares, and what to say of it.

K alpha = Y has no solution where K is singular and Y asks for what K cannot give: equal rows with
different labels, more points than the kernel has features, a row of zeros under a kernel of products.
What is learned then is the least-squares solution of smallest norm: K^+ Y. As a function it is unique.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.linalg import CholeskyFactor, not_semidefinite

# Up to this relative residual a linear system counts as solved.
SOLVED = 1e-6
# Targets that can be met are, up to this many times the tolerance of an iteration.
MET = 2.0
# A pivot is zero below this many times sqrt(n) eps max_i A_ii: sums of n rounded terms are off by about
# sqrt(n) eps.
_PIVOT_ROUNDING = 4.0
# Where A is singular its spectrum is truncated at this power of eps: the rest is amplified by up to
# eps^(-2/3), and its rounding stays below eps^(1/3).
_TRUNCATION_POWER = 2 / 3
# Columns of the pivoted factor computed together, and the share of the largest remaining pivot that a column
# must have to be among them: pivots are then nearly the largest, as in the algorithm one by one.
_BLOCK, _PIVOT_SHARE = 128, 1 / 16
# What a pseudo-inverse holds beside its matrix, in numbers of n times its rank: G, Q and what makes them.
_PSEUDO_INVERSE = 3
# Predictions that differ from the solution by this share of the targets are told.
TOLD = 0.05
# A v may differ from the factor's G G^T v by this share where A is positive semidefinite.
_INDEFINITE = 1e-3


class SingularMatrixWarning(RuntimeWarning):
    """The targets cannot be met, or are not: what was learned is named in the message."""


@dataclass(frozen=True)
class DistinctRows:
    """The rows of a table without repetition.

    Attributes:
        first: where each of the u distinct rows stands first, (u,), ascending.
        group: which of the distinct rows each row is, (n,).
        counts: how often each distinct row occurs, (u,).
    """

    first: Tensor
    group: Tensor
    counts: Tensor

    @classmethod
    def of(cls, X: Tensor) -> DistinctRows:
        """Of X (n, d), by sorting: rows that are equal in every bit but the sign of zero."""
        _, group, counts = torch.unique(X, dim=0, return_inverse=True, return_counts=True)
        # Rows by group, in their own order within each, and where each group begins.
        first = group.argsort(stable=True)[counts.cumsum(0) - counts]
        order = first.argsort()
        return cls(first[order], order.argsort()[group], counts[order])

    def sums(self, Y: Tensor) -> Tensor:
        """The sum of Y over rows that are equal: (n, c) -> (u, c)."""
        return Y.new_zeros(len(self.counts), Y.shape[1]).index_add_(0, self.group.to(Y.device), Y)

    def means(self, Y: Tensor) -> Tensor:
        """Y (n, c), each row the mean over those that are equal: what of it a kernel matrix of these rows reaches."""
        means = self.sums(Y).div_(self.counts.to(Y)[:, None])
        return means[self.group.to(Y.device)]


class PseudoInverse:
    """A^+ of a positive semidefinite A (n, n) of rank r: A = G G^T, G = Q R, A^+ = Q R^-T R^-1 Q^T.

    G (n, r) is the pivoted Cholesky factor (Higham 1990), by blocks; the residual A - G G^T has a diagonal below
    eps^(2/3) of A's largest entry. n r^2 operations for G, 2 n r^2 for Q, and 2 n r numbers beside A.

    Attributes:
        array: A.
        rank: r, the numerical rank.
        coarse: whether it is that of a type coarser than A's.
    """

    def __init__(self, A: Tensor, most: int | None = None) -> None:
        """``most``: the largest rank there is memory for.

        Raises:
            ValueError: where A is not positive semidefinite, or its rank exceeds ``most``.
        """
        self.array = A
        self.truncate(A.dtype, most)

    def truncate(self, dtype: torch.dtype, most: int | None = None) -> None:
        """Make it for weights of type ``dtype``, in place of what it was."""
        A = self.array
        self.Q = self.R = A.new_empty(0, 0)  # there is no memory for two of them
        self.coarse = dtype != A.dtype
        G, _ = _pivoted_cholesky(A, len(A) if most is None else most, _truncation(A, dtype))
        probe = torch.linspace(-1, 1, len(A), dtype=A.dtype, device=A.device)[:, None] + 0.5
        image = A @ probe
        if not (image - G @ (G.mT @ probe)).norm() <= _INDEFINITE * image.norm():
            raise not_semidefinite(len(A))
        self.Q, self.R = torch.linalg.qr(G)
        self.rank = G.shape[1]

    def solve(self, B: Tensor) -> Tensor:
        """A^+ B: (n, c) -> (n, c), in the precision of A."""
        inner = torch.linalg.solve_triangular(self.R, self.Q.mT @ B, upper=True)
        outer: Tensor = torch.linalg.solve_triangular(self.R.mT, inner, upper=False)
        X: Tensor = self.Q @ outer
        return X

    def matmul(self, W: Tensor) -> Tensor:
        """A W: (n, c) -> (n, c)."""
        return (self.array @ W.to(self.array.dtype)).to(W.dtype)


def largest_rank(room: float, n: int, itemsize: int) -> int:
    """Of a pseudo-inverse of a matrix (n, n) of such numbers, for which there is ``room``, bytes, beside it."""
    return max(1, int(room // (_PSEUDO_INVERSE * itemsize * n)))


def factorised(A: Tensor, most: int | None = None) -> CholeskyFactor | PseudoInverse:
    """The Cholesky factor of A (n, n), in place, or where its pivots say that it is singular A^+.

    Raises:
        ValueError: as ``CholeskyFactor`` and ``PseudoInverse``.
    """
    zero = zero_pivot(A.diagonal())
    factor = CholeskyFactor(A, jitters=False)
    if factor.smallest_pivot > zero:
        return factor
    factor.restore()
    return PseudoInverse(A, most)


def factor_or_rows(A: Tensor, zero: float = 0.0) -> CholeskyFactor | Tensor:
    """The Cholesky factor of A (n, n), in place, where its rows are independent; else some that span all.

    Of K(Z, Z): centers whose functions span those of all, (r,) with r the numerical rank; A is then the
    same afterwards. ``zero``: pivots up to this are none.
    """
    zero = max(zero, zero_pivot(A.diagonal()))
    factor = CholeskyFactor(A, jitters=False)
    if factor.smallest_pivot > zero:
        return factor
    factor.restore()
    return _pivoted_cholesky(A, len(A), zero)[1]


def zero_pivot(diagonal: Tensor) -> float:
    """What a pivot of a matrix with this diagonal, (n,), must exceed to be more than rounding."""
    eps = torch.finfo(diagonal.dtype).eps
    return _PIVOT_ROUNDING * math.sqrt(len(diagonal)) * eps * diagonal.max().item()


def is_rounding(weights: Tensor, size: float, Y: Tensor) -> Tensor:
    """Of each output, whether float64 cannot tell f from its rounding: alpha (n, c), |K|, Y (n, c) -> (c,).

    Weights so large belong to eigenvalues that are rounding themselves.
    """
    off: Tensor = torch.finfo(torch.float64).eps * size * weights.norm(dim=0)
    rounds: Tensor = off > SOLVED * Y.norm(dim=0)
    return rounds


def rounded_share(outputs: Tensor, exact: Tensor, Y: Tensor) -> float:
    """What rounding has done to f, as a share of the targets Y (n, c): root mean squares, the worst output's.

    ``outputs``, ``exact``: f at some points as its model has it and as solved, (m, c). inf where f is not finite.
    """
    off = (outputs.double() - exact.double()).square().mean(0).sqrt()
    sizes = Y.square().mean(0).double().sqrt()
    shares = (off / sizes)[sizes > 0]  # an output without targets has no size
    return shares.nan_to_num(nan=math.inf).max().item() if len(shares) else 0.0


def rounds_off(share: float) -> bool:
    """Whether that is more than rounding of a solution that float32 can hold: another one may be better."""
    held: float = torch.finfo(torch.float32).eps ** (1 - _TRUNCATION_POWER)
    return share > held


def smallest_held(dtype: torch.dtype) -> float:
    """The smallest eigenvalue of K that weights of this type may be made of, as a share of max k(x, x)."""
    share: float = torch.finfo(dtype).eps ** _TRUNCATION_POWER
    return share


def unmet(left: float, n: int, distinct: int, rank: int | None = None) -> str:
    """The sentence for targets that the model cannot meet.

    ``left``: |Y - f(X)| / |Y|, the worst output's. Of n points ``distinct`` differ; ``rank`` of their
    kernel matrix, where it is known.
    """
    reasons = [f"{n - distinct:,} of {n:,} points repeat others"] if distinct < n else []
    if rank is not None and rank < distinct:
        reasons.append(f"{distinct:,} points, rank {rank:,}")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return (
        f"K is singular{why}: no function of the model meets all targets, a relative residual of "
        f"{left:.2g} is left; what was learned is the least-squares solution of smallest norm"
    )


def too_coarse(dtype: torch.dtype, so: str, ridge: float) -> str:
    """The sentence for a solution with this ridge whose weights ``dtype`` cannot hold, and so what."""
    name = str(dtype).removeprefix("torch.")
    ways = ["dtype=float64"] if dtype != torch.float64 else []
    return (
        f"K is nearly singular: {name} cannot hold weights as large as those of the solution, {so}; take "
        + " or ".join([*ways, _a_ridge(ridge)])
    )


def off_by(share: float) -> str:
    """What ``too_coarse`` says of a ``rounded_share``."""
    return f"and the model's predictions are off by {share:.1g} of the targets"


def unsolved(left: float, ridge: float, *ways: str) -> str:
    """The sentence for a system with this ridge that has a solution which was not reached.

    ``left``: its residual; ``ways``: what helps beside a ridge.
    """
    return (
        f"the system is not solved: a relative residual of {left:.2g} is left, and the norm is a lower "
        f"bound; take {' or '.join([*ways, _a_ridge(ridge)])}"
    )


def _a_ridge(ridge: float) -> str:
    return "a larger ridge" if ridge > 0 else "a ridge above 0"


def _truncation(A: Tensor, dtype: torch.dtype) -> float:
    """The eigenvalue up to which a singular A is truncated, for weights of type ``dtype``."""
    level: float = torch.finfo(dtype).eps ** _TRUNCATION_POWER * A.diagonal().max().item()
    return level


def _pivoted_cholesky(A: Tensor, most: int, zero: float = 0.0) -> tuple[Tensor, Tensor]:
    """G (n, r) with A - G G^T zero up to the truncation, and the pivots (r,)."""
    zero = max(zero, zero_pivot(A.diagonal()), _truncation(A, A.dtype))
    left = A.diagonal().clone()  # of A - G G^T
    parts: list[Tensor] = []  # of the rows of G^T
    all_pivots: list[Tensor] = []
    while (largest := left.max().item()) > zero:
        block = left.topk(min(_BLOCK, len(A))).indices
        C = A[block]  # (b, n)
        for part in parts:
            C = C.addmm_(part[:, block].mT, part, alpha=-1)
        pivots, L = _pivots(C[:, block], max(zero, _PIVOT_SHARE * largest))
        rows = torch.linalg.solve_triangular(L, C[pivots], upper=False)
        parts.append(rows)
        all_pivots.append(block[pivots])
        left -= rows.square().sum(0)
        left[block[pivots]] = 0
        if sum(map(len, parts)) > most:
            raise ValueError(
                f"the kernel matrix of {len(A):,} points is singular, and there is memory for a rank of "
                f"{most:,} alone: take a ridge above 0, fewer points or centers, more memory, solver=cg, or of projections "
                "projection=inexact"
            )
    return torch.cat(parts).mT, torch.cat(all_pivots)


def _pivots(S: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """The pivots of S (b, b) not below ``smallest``, largest first, and their Cholesky factor."""
    L, left = torch.zeros_like(S), S.diagonal().clone()
    chosen: list[int] = []
    for k in range(len(S)):
        value, j = left.max(0)
        if not value.item() > smallest and chosen:
            break
        column = (S[:, j] - L[:, :k] @ L[j, :k]) / value.sqrt()
        L[:, k] = column
        left -= column.square()
        chosen.append(int(j))
        left[chosen] = -torch.inf
    return torch.tensor(chosen, device=S.device), L[chosen, : len(chosen)]
