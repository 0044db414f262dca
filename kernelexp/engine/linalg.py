"""Dense symmetric systems in place: factors, and the top of their spectra."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernelexp.engine.tiles import ranges

# Columns factored together: wide enough for fast matrix products, narrow enough that the dense
# factorisations of the diagonal blocks do not count.
_BLOCK = 512
# Of triangular systems with a block, which solvers take at half the rate of products: columns eliminated
# by a solver, the others by products.
_ELIMINATED = 128
# Rows and columns of tiles that are used once, in float64, and stay in cache.
_TILE_ROWS, _TILE_COLUMNS = 128, 2048
_POWER_ITERATIONS = 30
# A Krylov space pays from this size on, for at most one in so many of the eigenpairs.
_SMALLEST_KRYLOV, _KRYLOV_SHARE = 1500, 8
# Dimensions that are tried at least, however few pairs are asked for: a single one has no more than five of its own.
_FEWEST_DIMENSIONS = 40
# What the residual of an eigenpair may be, as a share of its eigenvalue: the preconditioner deflates each
# direction to the next eigenvalue after those asked for, where 1% is nothing.
# What the products round off is about this many times eps times the largest eigenvalue.
_PAIR_RESIDUAL, _ROUNDING = 0.01, 30.0
# What is first added to each diagonal entry where rounding has made a matrix indefinite, as a share of it in units
# of eps, and by how much it grows until the factorisation succeeds.
_FIRST_JITTER, _JITTER_GROWTH, _JITTER_TRIES = 8.0, 8.0, 12


class CholeskyFactor:
    """A symmetric positive definite matrix and its Cholesky factor in one n x n array.

    The lower triangle of the array becomes L, A + jitter diag(A) = L L^T; above the diagonal A stays, and
    of its diagonal blocks a copy is kept, so that A W and residuals can still be computed.

    What rounding does to A_ij is a share of sqrt(A_ii A_jj), whatever the other rows are (Demmel 1989; Higham
    2002, theorem 10.5). So pivots and jitter are shares of their own diagonal entries: L is as good as that of
    S A S, S = diag(A)^(-1/2), and a row far larger than the others takes nothing from them.

    Attributes:
        jitter: the share of each diagonal entry that was added to it because A is not positive definite in its
            precision; 0 where it is.
        smallest_pivot: the smallest L_ii^2 / A_ii, at most 1; -inf where there is no factor.
        restored: whether the array is A again, and no factor any more.
    """

    def __init__(self, A: Tensor, jitters: bool = True) -> None:
        """Factor A (n, n) in place: n^3 / 3 operations, n x 512 numbers beside A.

        ``jitters`` false: without a jitter, and so perhaps without success.

        Raises:
            ValueError: where A has NaN, no positive diagonal, or is far from positive definite.
        """
        self.array = A
        self.jitter, self.smallest_pivot, self.restored = 0.0, math.inf, False
        mean = A.diagonal().mean().item()
        if not (mean > 0 and all(bool(end.isfinite()) for end in A.aminmax())):
            raise ValueError(
                f"the kernel matrix of {len(A)} points has NaN or no positive diagonal: the kernel must be "
                "positive semidefinite and finite on the data, and the data not all zero"
            )
        self.blocks = [A[b, b].clone() for b in ranges(len(A), _BLOCK)]
        first = _FIRST_JITTER * torch.finfo(A.dtype).eps
        while not self._factor() and jitters:
            self.jitter = self.jitter * _JITTER_GROWTH or first
            if self.jitter > first * _JITTER_GROWTH**_JITTER_TRIES:
                raise not_semidefinite(len(A))
            self.restore()

    def _factor(self) -> bool:
        A, n = self.array, len(self.array)
        self.smallest_pivot, self.restored = math.inf, False
        for k, block in zip(ranges(n, _BLOCK), self.blocks, strict=True):
            done, below = slice(0, k.start), slice(k.stop, n)
            # All updates of a column at once: long inner dimensions, and one pass over the column.
            A[k.start :, k].addmm_(A[k.start :, done], A[k, done].mT, alpha=-1)
            A[k, k].diagonal().add_(block.diagonal(), alpha=self.jitter)
            L, info = torch.linalg.cholesky_ex(A[k, k])
            if info.item() or not L.diagonal().isfinite().all():
                self.smallest_pivot = -math.inf
                return False
            pivots = L.diagonal().square() / block.diagonal()
            self.smallest_pivot = min(self.smallest_pivot, pivots.min().item())
            A[k, k] = L
            if k.stop < n:
                eliminate_(L, A[below, k])
        return True

    def restore(self) -> None:
        """Make the array A again, in place of the factor."""
        for b, block in zip(ranges(len(self.array), _BLOCK), self.blocks, strict=True):
            self.array[b, b] = block
        mirror_(self.array)
        self.restored = True

    def solve_lower(self, B: Tensor) -> Tensor:
        """L^-1 B: (n, c) -> (n, c)."""
        X: Tensor = torch.linalg.solve_triangular(self.array, B, upper=False)
        return X

    def solve_upper(self, B: Tensor) -> Tensor:
        """L^-T B: (n, c) -> (n, c)."""
        X: Tensor = torch.linalg.solve_triangular(self.array.mT, B, upper=True)
        return X

    def solve(self, B: Tensor) -> Tensor:
        """(A + jitter diag(A))^-1 B: (n, c) -> (n, c), in the precision of A."""
        return self.solve_upper(self.solve_lower(B))

    def matmul(self, W: Tensor) -> Tensor:
        """A W, without the jitter: (n, c) -> (n, c), summed in W's precision."""
        n, W_T = len(self.array), W.mT.contiguous()
        out = torch.empty_like(W_T)  # (c, n): products with few columns are faster by columns
        for b, block in zip(ranges(n, _BLOCK), self.blocks, strict=True):
            torch.mm(W_T[:, b], block.to(W.dtype), out=out[:, b])
        for b in ranges(n, _BLOCK):
            for i in ranges(b.stop - b.start, _TILE_ROWS):
                rows = slice(b.start + i.start, b.start + i.stop)
                for j in ranges(n - b.stop, _TILE_COLUMNS):
                    columns = slice(b.stop + j.start, b.stop + j.stop)
                    tile = self.array[rows, columns].to(W.dtype)
                    out[:, rows].addmm_(W_T[:, columns], tile.mT)
                    out[:, columns].addmm_(W_T[:, rows], tile)
        return out.mT.contiguous()


def eliminate_(L: Tensor, B: Tensor) -> None:
    """B <- B L^-T, in place: L (b, b) lower triangular, B (m, b)."""
    for k in ranges(len(L), _ELIMINATED):
        done = slice(0, k.start)
        B[:, k].addmm_(B[:, done], L[k, done].mT, alpha=-1)
        B[:, k] = torch.linalg.solve_triangular(L[k, k], B[:, k].mT, upper=False).mT


def mean_squares(R: Tensor) -> Tensor:
    """Over the first axis, without squares of them all beside: (n, m, c) -> (m, c)."""
    norms: Tensor = torch.linalg.vector_norm(R, dim=0)
    return norms.square() / len(R)


def not_semidefinite(n: int) -> ValueError:
    """The error for a matrix that no kernel has."""
    return ValueError(
        f"the kernel matrix of {n} points is not positive semidefinite: the kernel must be, and its "
        "parameters must suit the data"
    )


def top_eigenvalue(A: Tensor, generator: torch.Generator) -> float:
    """The largest eigenvalue of A (n, n), positive semidefinite, by power iteration."""
    start = torch.randn(len(A), 1, generator=generator, dtype=A.dtype).to(A.device)
    return power_iteration(lambda v: A @ v, start)


def power_iteration(product: Callable[[Tensor], Tensor], v: Tensor) -> float:
    """The largest eigenvalue of a positive semidefinite matrix of which products are known, from v (n, 1).

    It ends after 30 iterations, or when one adds no more than rounding.
    """
    size, resolution = 0.0, 1 + 4 * torch.finfo(v.dtype).eps
    for _ in range(_POWER_ITERATIONS):
        v = product(v / v.norm())
        former, size = size, float(v.norm())  # it only grows, up to rounding
        if size <= former * resolution:
            break
    return size


def top_eigenpairs(
    A: Tensor, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """The top eigenpairs of A (n, n), symmetric: values (rank,) descending, vectors (n, rank).

    By Rayleigh-Ritz on a randomised block Krylov space (Musco, Musco 2015, algorithm 2), grown until
    |A v - value v| is 1% of every value, or rounding: 6 n^2 rank operations where 3 rank dimensions
    suffice. Dense, by n^3 operations, where n is small or 5 rank dimensions, of few pairs 40, do not suffice.

    Returns:
        Values, vectors (orthonormal), and the smallest eigenvalue seen.
    """
    n = len(A)
    if n >= _SMALLEST_KRYLOV and _KRYLOV_SHARE * rank <= n:
        block = -(-rank // 8)
        Q = torch.randn(n, block, generator=generator, dtype=A.dtype).to(A.device)
        basis, images = A.new_empty(n, 0), A.new_empty(n, 0)  # Q_0 .. Q_j and A times them
        while basis.shape[1] + block <= min(n // 2, max(5 * rank, _FEWEST_DIMENSIONS)):
            for _ in range(2):  # reorthogonalised once, against rounding
                Q = torch.linalg.qr(Q - basis @ (basis.mT @ Q))[0]
            basis = torch.cat([basis, Q], 1)
            Q = A @ Q
            images = torch.cat([images, Q], 1)
            if basis.shape[1] < 3 * rank:
                continue
            T = basis.mT @ images
            ritz, U = torch.linalg.eigh((T + T.mT).div_(2))
            values, U = ritz.flip(0)[:rank], U.flip(1)[:, :rank]
            vectors = basis @ U
            left = (images @ U - vectors * values).norm(dim=0)
            rounding = _ROUNDING * torch.finfo(A.dtype).eps * values[0]
            if bool((left <= (_PAIR_RESIDUAL * values).clamp(min=rounding)).all()):
                return values, vectors, ritz[0].item()
    values, vectors = torch.linalg.eigh(A)
    return values.flip(0)[:rank].clone(), vectors[:, -rank:].flip(1), values[0].item()


def add_gram_(A: Tensor, K: Tensor) -> None:
    """A += K^T K, on and above the diagonal blocks alone: A (p, p), K (m, p)."""
    for b in ranges(len(A), _BLOCK):
        A[: b.stop, b].addmm_(K[:, : b.stop].mT, K[:, b])


def mirror_(A: Tensor) -> None:
    """Copy what is above the diagonal blocks of A (n, n) to below them."""
    for b in ranges(len(A), _BLOCK):
        A[b.stop :, b] = A[b, b.stop :].mT


def relative_residual(R: Tensor, B: Tensor) -> float:
    """Max over columns of |r_c| / |b_c|; columns of zeros do not count."""
    sizes = B.norm(dim=0)
    used = sizes > 0
    return (R.norm(dim=0)[used] / sizes[used]).max().item() if used.any() else 0.0
