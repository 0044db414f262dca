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
# A pivot is zero below this many times sqrt(n) eps of its own diagonal entry: sums of n rounded terms are off by
# about sqrt(n) eps of what is added, and |A_ij| <= sqrt(A_ii A_jj).
_PIVOT_ROUNDING = 4.0
# Where A is singular its pivots are truncated at this power of eps: the rest is amplified by up to
# eps^(-2/3), and its rounding stays below eps^(1/3).
_TRUNCATION_POWER = 2 / 3
# Columns of the pivoted factor computed together, and the share of the largest remaining pivot that a column
# must have to be among them: pivots are then nearly the largest, as in the algorithm one by one.
_BLOCK, _PIVOT_SHARE = 128, 1 / 16
# What a pseudo-inverse holds beside its matrix, in numbers of n times its rank: G, Q and what makes them.
_PSEUDO_INVERSE = 3
# Predictions that differ from the solution by this share of the targets are told.
TOLD = 0.05
# A v may differ from the factor's G G^T v by this share, of it or v, where A is positive semidefinite with a diagonal of 1.
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
    eps^(2/3) of A's own. n r^2 operations for G, 2 n r^2 for Q, and 2 n r numbers beside A.

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
        least = max(truncation(dtype), truncation(A.dtype))
        n = len(A)
        G, _ = _pivoted_cholesky(A, n if most is None else min(most, n), least)
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
    factor = CholeskyFactor(A, jitters=False)
    if factor.smallest_pivot > zero_pivot(len(A), A.dtype):
        return factor
    factor.restore()
    return PseudoInverse(A, most)


def zero_pivot(n: int, dtype: torch.dtype) -> float:
    """What a pivot of n rows, as a share of its own diagonal entry, must exceed to be more than rounding."""
    return _PIVOT_ROUNDING * math.sqrt(n) * torch.finfo(dtype).eps


def truncation(dtype: torch.dtype) -> float:
    """Up to which share of its own diagonal entry a pivot is zero for weights of this type, and of k(x, x) an eigenvalue."""
    return float(torch.finfo(dtype).eps ** _TRUNCATION_POWER)


def by_pivots(A: Tensor, most: int, zero: float) -> tuple[Tensor, Tensor, Tensor]:
    """G^T (r, n), the pivots (r,), and the diagonal of A - G G^T (n,), not above ``zero`` of A's.

    Each pivot is one of the largest of those that are more than that share of their own diagonal entries. In one
    piece of memory for ``most`` rows, of which a CPU has what is written.
    """
    n, diagonal = len(A), A.diagonal().clone()
    level = max(zero, zero_pivot(n, A.dtype)) * diagonal
    left = diagonal.clone()  # of A - G G^T
    G_T, rank = A.new_empty(most, n), 0
    all_pivots: list[Tensor] = []
    while (largest := left.where(left > level, 0).max().item()) > 0:
        block = left.where(left > level, 0).topk(min(_BLOCK, n)).indices
        done = G_T[:rank]
        C = A[block].addmm_(done[:, block].mT, done, alpha=-1)  # (b, n)
        pivots, L = _pivots(C[:, block], left[block], level[block], _PIVOT_SHARE * largest)
        rank += len(pivots)
        if rank > most:
            raise ValueError(
                f"the kernel matrix of {n:,} points is singular, and there is memory for a rank of "
                f"{most:,} alone: take a ridge above 0, fewer points or centers, more memory, solver=cg, or of projections "
                "projection=inexact"
            )
        rows = torch.linalg.solve_triangular(L, C[pivots], upper=False)
        G_T[len(done) : rank] = rows
        all_pivots.append(block[pivots])
        left -= rows.square().sum(0)
        left[block[pivots]] = 0
    _check_semidefinite(A, G_T[:rank], diagonal)
    return G_T[:rank], torch.cat(all_pivots), left.clamp_(min=0)


def is_rounding(weights: Tensor, size: float, Y: Tensor) -> Tensor:
    """Of each output, whether float64 cannot tell f from its rounding: alpha (n, c), |K|, Y (n, c) -> (c,).

    Weights so large belong to eigenvalues that are rounding themselves.
    """
    off: Tensor = torch.finfo(torch.float64).eps * size * weights.norm(dim=0)
    rounds: Tensor = off > SOLVED * Y.norm(dim=0)
    return rounds


def rounded_share(mean_squares: Tensor, Y: Tensor) -> float:
    """What rounding has done to f, as a share of the targets Y (n, c): root mean squares, the worst output's.

    ``mean_squares``: of the difference of f as its model has it and as solved, (c,). inf where f is not finite.
    """
    off = mean_squares.sqrt()
    sizes = Y.square().mean(0).double().sqrt()
    shares = (off / sizes)[sizes > 0]  # an output without targets has no size
    return shares.nan_to_num(nan=math.inf).max().item() if len(shares) else 0.0


def rounds_off(share: float) -> bool:
    """Whether that is more than rounding of a solution that float32 can hold: another one may be better."""
    held: float = torch.finfo(torch.float32).eps ** (1 - _TRUNCATION_POWER)
    return share > held


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


def _pivoted_cholesky(A: Tensor, most: int, zero: float) -> tuple[Tensor, Tensor]:
    """G (n, r) with A - G G^T zero up to the truncation, and the pivots (r,)."""
    G_T, pivots, _ = by_pivots(A, most, zero)
    return G_T.mT, pivots


def _check_semidefinite(A: Tensor, G_T: Tensor, diagonal: Tensor) -> None:
    """Refuse an A of which something is left where no pivot is: a product says so, each row in units of its own."""
    scales = diagonal.where(diagonal > 0, diagonal.mean()).rsqrt()[:, None]
    probe = torch.linspace(-1, 1, len(A), dtype=A.dtype, device=A.device)[:, None] + 0.5
    probe_A = probe * scales
    image = (A @ probe_A).mul_(scales)
    left = image - (G_T.mT @ (G_T @ probe_A)).mul_(scales)
    if not left.norm() <= _INDEFINITE * torch.maximum(image.norm(), probe.norm()):
        raise not_semidefinite(len(A))


def _pivots(S: Tensor, left: Tensor, level: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """The pivots of S (b, b) not below ``smallest`` and above ``level`` (b,), largest first, and their Cholesky factor.

    ``left``: the diagonal of S, (b,), as it was carried along.
    """
    L, left = torch.zeros_like(S), left.where(left > level, -torch.inf)
    chosen: list[int] = []
    for k in range(len(S)):
        value, j = left.max(0)
        if not value.item() > smallest:
            break
        column = (S[:, j] - L[:, :k] @ L[j, :k]) / value.sqrt()
        column[j] = value.sqrt()
        L[:, k] = column
        left -= column.square()
        chosen.append(int(j))
        left[chosen] = -torch.inf
        left[left <= level] = -torch.inf
    return torch.tensor(chosen, device=S.device), L[chosen, : len(chosen)]
