"""Preconditioners of (K + n ridge I) alpha = Y, each from the top of an approximation of K of low rank.

With eigenvalues n lambda_i and orthonormal vectors U of the approximation, q of them,

    M^-1 = I - U diag(1 - floor / (lambda_i + ridge)) U^T,

which takes the q directions to n floor and leaves the others as they are. A factor that M is multiplied by does
not matter. What differs is the approximation, and the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.rpcholesky import BLOCK, rp_cholesky
from kernelexp.engine.spectrum import Spectrum, eigensystem, extend

# The smallest floor, as a share of lambda_1: below, rounding of U is more than what M^-1 leaves of a direction.
_LEAST = 1e-9


@dataclass(frozen=True)
class LowRank:
    """M^-1 = I - U diag(shrink) U^T.

    Attributes:
        vectors: U, (n, q), orthonormal; of several ranks each has its own rows.
        shrink: (q,), 0 <= shrink < 1.
        ranks: the processes that share it.
    """

    vectors: Tensor
    shrink: Tensor
    ranks: Ranks

    def solve(self, R: Tensor) -> Tensor:
        """M^-1 R: (n, c) -> (n, c)."""
        ranks, U = self.ranks, self.vectors
        along = ranks.all_reduce(U.mT @ ranks.own(R))
        return R - ranks.gather(U @ (self.shrink[:, None] * along), len(R))


@dataclass(frozen=True)
class Given:
    """What a preconditioner is made from.

    Attributes:
        kernel, points: k and X, (n, d).
        spectrum: of K, from a subsample: as many pairs as ``pairs`` says.
        q: directions.
        ridge: >= 0, in the units of eigenvalues of K / n.
        generator: what is drawn comes from it.
        ranks: the processes that share it.
        least: the smallest eigenvalue of K / n that a step is to be made of at once: those below are taken up by iterations.
    """

    kernel: BlockedKernel
    points: Points
    spectrum: Spectrum
    q: int
    ridge: float
    generator: torch.Generator
    ranks: Ranks
    least: float = 0.0

    def made(self, values: Tensor, U: Tensor, floor: float) -> LowRank:
        """From the eigensystem of an approximation, values (q,) of K / n."""
        values = values + self.ridge
        floor = max(floor, self.least, _LEAST * self.spectrum.top_eigenvalue)
        return LowRank(U.contiguous(), (1 - floor / values).clamp(min=0), self.ranks)


def eigenpro(given: Given) -> LowRank:
    """The top q eigenvectors of the subsample, extended to all points; floor = lambda_(q+1) + ridge.

    EigenPro 1's (Ma, Belkin 2017), of K + n ridge I.
    """
    g, q = given, given.q
    values, U = extend(g.kernel, g.points, g.spectrum, q + 1, g.ranks)
    return g.made(values[:q], U[:, :q], values[-1].item() + g.ridge)


def nystrom(given: Given) -> LowRank:
    """The top q pairs of K(X, S) K(S, S)^-1 K(S, X), S all of the subsample; floor = lambda_q + ridge.

    Frangella, Tropp, Udell 2021, eq. 1.3, whose sketch here consists of columns of K, and which is cut to q pairs.
    Unlike ``eigenpro`` it lets all s columns decide where the q directions lie.
    """
    g = given
    values, U = extend(g.kernel, g.points, g.spectrum, None, g.ranks, max(g.q, 1))
    return g.made(values[: g.q], U[:, : g.q], values[-1].item() + g.ridge)


def rpcholesky(given: Given) -> LowRank:
    """M^-1 = mu (F F^T + mu I)^-1, F F^T by q pivots (``rp_cholesky``), mu = n ridge + the mean diagonal that is left.

    Diaz, Epperly, Frangella, Tropp, Webber 2023, with mu = n ridge; what is left, the mean of the eigenvalues that
    F F^T does not have, is added so that there is a mu without a ridge. By F's eigenvectors in place of Woodbury's
    formula: floor = mu / n, and lambda + ridge becomes lambda + floor.
    """
    g, n = given, len(given.points)
    factor = rp_cholesky(g.kernel, g.points, g.q, g.generator, g.ranks)
    values, U = eigensystem(factor.F, None, g.ranks)
    left = g.ranks.mean(factor.left[:, None], n) / n
    if g.ridge == 0 and left < _LEAST * g.spectrum.top_eigenvalue:
        left = values[-1].item() / n  # F F^T is all of K, and nothing else is to be told from it
    return g.made(values / n + left, U, left + g.ridge)


def none(given: Given) -> LowRank:
    """M = I."""
    nothing = given.spectrum.values[:0]
    U = nothing.new_empty(len(given.ranks.own(given.points)), 0)
    return given.made(nothing, U, 0.0)


PRECONDITIONERS: dict[str, Callable[[Given], LowRank]] = {
    "eigenpro": eigenpro,
    "nystrom": nystrom,
    "rpcholesky": rpcholesky,
    "none": none,
}


def pairs(kind: str, s: int, q: int) -> int:
    """How many pairs of the spectrum it needs, of a subsample of s points."""
    return {"eigenpro": q + 1, "nystrom": s}.get(kind, 1)


def numbers_to_make(kind: str, own: int, s: int, q: int) -> float:
    """What making it holds beside U, in numbers; of n points a rank has ``own``."""
    squares = {"nystrom": 7.0 * s * s, "rpcholesky": 5.0 * q * q}.get(kind, 0.0)
    columns = {"nystrom": s, "rpcholesky": q + BLOCK}.get(kind, q)
    return max(4.5 * s * s, squares) + own * columns
