"""The top of a kernel's spectrum from a Nystrom subsample."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.linalg import top_eigenpairs
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points, as_points
from kernelexp.engine.ranks import ALONE, Ranks

# Eigenvalues below minus this share of the largest are no rounding, in float32 neither.
_INDEFINITE = 1e-3


@dataclass(frozen=True)
class Spectrum:
    """Eigensystem of K(X_s, X_s) / s for s subsampled points, largest eigenvalue first.

    Attributes:
        rows: (s,) indices of the subsample in the training data.
        values: (k,) eigenvalues sigma_i, estimates of those of K / n.
        vectors: (s, k) orthonormal eigenvectors V.
        diagonal: (s,) k(x, x) on the subsample.
        residual: max_i |K_s v_i / s - sigma_i v_i| / sigma_1 over the k pairs, what the
            eigensolver left.
    """

    rows: Tensor
    values: Tensor
    vectors: Tensor
    diagonal: Tensor
    residual: float

    @property
    def size(self) -> int:
        """s, the number of points of the subsample."""
        return len(self.rows)

    @property
    def top_eigenvalue(self) -> float:
        """lambda_1 of K / n, estimated by sigma_1."""
        return self.values[0].item()


def nystrom_spectrum(
    kernel: BlockedKernel,
    X: Tensor | Points,
    size: int,
    generator: torch.Generator,
    rank: int,
    dtype: torch.dtype | None = None,
) -> Spectrum:
    """Top-``rank`` eigensystem of K(X_s, X_s) / s on ``size`` random rows of X (n, d).

    By ``linalg.top_eigenpairs``: dense for a small or a large part of the spectrum (O(s^3)
    operations, about 4 s^2 numbers), else randomised, to a residual of 1% of each eigenvalue.
    Ma, Belkin 2019, section 4 (Nystrom extension).

    Raises:
        ValueError: where the kernel matrix is zero or not positive semidefinite.
    """
    X = as_points(X)
    rows = torch.randperm(len(X), generator=generator)[:size].to(X.device)
    Xs = X[rows].to(dtype or X.values.dtype, X.device)
    K = kernel(Xs, Xs).dense().div_(len(rows))
    values, vectors, bottom = top_eigenpairs(K, rank, generator)
    top = values[0].item()
    if not top > 0 or bottom < -_INDEFINITE * top:
        raise ValueError(
            f"the kernel matrix of {len(rows)} training points has eigenvalues from {bottom:.3g} to "
            f"{top:.3g}: the kernel must be positive semidefinite and the data not all zero"
        )
    values = values.clamp_(min=0)
    left = (K @ vectors).sub_(vectors * values).norm(dim=0).max() / values[0]
    return Spectrum(rows, values, vectors, kernel.diag(Xs), left.item())


def extend(
    kernel: BlockedKernel,
    X: Tensor | Points,
    spectrum: Spectrum,
    rank: int | None = None,
    ranks: Ranks = ALONE,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Eigensystem of the Nystrom approximation of all of K: values of K / n (k,), vectors (n, k).

    Of several ranks each gets its own rows of the vectors; of all pairs the top ``most``.

    K(X, X_s) V_k (s Sigma_k)^-1 V_k^T K(X_s, X) = B B^T with B = K(X, X_s) V_k (s Sigma_k)^-1/2; its
    eigenvectors are orthonormal on the n points, unlike the columns of B. Directions below rounding
    are left out, so k can be less than ``rank``. Costs one kernel block of n x s.
    """
    sigma = spectrum.values[:rank]
    sigma = sigma[sigma > 100 * torch.finfo(sigma.dtype).eps * sigma[0]]
    V = spectrum.vectors[:, : len(sigma)] / (spectrum.size * sigma).sqrt()
    X = as_points(X)
    B = kernel(ranks.own(X), X[spectrum.rows]).matmul(V)  # (n, k)
    values, U = eigensystem(B, most, ranks)
    return (values / len(X)).to(B.dtype), U


def eigensystem(B: Tensor, most: int | None = None, ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
    """Of B B^T, the top ``most`` that are no rounding: values (k,) in float64, vectors (n, k), orthonormal.

    B (n, r) in float32 or float64; of several ranks each has its own rows, and gets those of the vectors.
    """
    gram = ranks.all_reduce(B.mT @ B).double()
    values, W = ranks.once(lambda: torch.linalg.eigh(gram))
    used = values > 1e-12 * values[-1:]
    values, W = values[used].flip(0)[:most], W[:, used].flip(1)[:, :most]
    return values, B @ (W / values.sqrt()).to(B.dtype)


def restricted_spectrum(
    kernel: BlockedKernel,
    X: Points,
    Z: Points,
    size: int,
    generator: torch.Generator,
    rank: int,
) -> tuple[Spectrum, Tensor, Tensor]:
    """Top-``rank`` eigensystem of k restricted to the span of ``size`` of the centers Z (p, d).

    Rayleigh-Ritz: the first 2 rank eigenvectors of K(Z', Z') give functions b = K(., Z') W that are
    orthonormal in the RKHS; the eigensystem of their second moments b(x) b(x)^T over points x of the
    data X (n, d), four for each of Z', is that of the covariance operator within their span. It knows
    the data, as a Nystrom subsample among the centers does not, and its functions are in the span of
    the centers, where EigenPro 3 needs them.

    Returns:
        The spectrum, on the data points used; the rows Z' in Z (size,); and V (size, k) such that
        K(., Z') V_i is the i-th eigenfunction with RKHS norm 1.
    """
    base = nystrom_spectrum(kernel, Z, size, generator, min(size, 2 * rank))
    sigma = base.values[base.values > 100 * torch.finfo(Z.values.dtype).eps * base.values[0]]
    W = base.vectors[:, : len(sigma)] / (size * sigma).sqrt()  # (size, k)
    rows = torch.randperm(len(X), generator=generator)[: 4 * size].to(X.device)
    B = kernel(X[rows], Z[base.rows]).matmul(W)  # (r, k)
    moments = (B.mT @ B).div_(len(rows)).double()
    values, U = torch.linalg.eigh(moments)
    left = (moments @ U - U * values).norm(dim=0).max() / values[-1]
    values, U = values.flip(0)[:rank].to(B.dtype), U.flip(1)[:, :rank].to(B.dtype)
    values = values.clamp_(min=torch.finfo(B.dtype).tiny)
    vectors = (B @ U) / (len(rows) * values).sqrt()  # (r, k), orthonormal
    spectrum = Spectrum(rows, values, vectors, kernel.diag(X[rows]), left.item())
    return spectrum, base.rows, W @ U
