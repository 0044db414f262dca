"""A block of the kernel matrix that is nearly inverted by a few of its directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.linalg import not_semidefinite, top_eigenvalue


@dataclass(frozen=True)
class DampedNystrom:
    """P = U diag(s) U^T + rho I, a preconditioner of K_BB + shift I that is inverted by r directions.

    U diag(s) U^T is the randomised Nystrom approximation K_BB W (W^T K_BB W)^+ W^T K_BB of b points by an
    orthonormal W (b, r) of random directions (Tropp, Yurtsever, Udell, Cevher 2017, algorithm 3), and
    rho = s_r + shift, the "damped" choice of Rathore et al. 2024 (arXiv 2407.10070, section 3.2).

    Attributes:
        vectors: U, (b, r), orthonormal.
        values: s, (r,), largest first.
        damping: rho.
    """

    vectors: Tensor
    values: Tensor
    damping: float

    @classmethod
    def of(
        cls, K: Tensor, rank: int, shift: float, rounding: float, generator: torch.Generator
    ) -> DampedNystrom:
        """Of K (b, b) in float64, of entries that are off by a share of ``rounding``; 2 b^2 r operations.

        Raises:
            ValueError: where K is not positive semidefinite.
        """
        b = len(K)
        W = torch.randn(b, rank, generator=generator, dtype=K.dtype).to(K.device)
        W, _ = torch.linalg.qr(W)
        # A small multiple of I keeps the factor from failing where K is singular, and is taken off again.
        tiny = rounding * (K.diagonal().sum().item() or shift)  # a block may be one row of zeros
        image = (K @ W).add_(W, alpha=tiny)
        L, failed = torch.linalg.cholesky_ex(W.mT @ image)
        if failed.item() or not tiny > 0:
            raise not_semidefinite(b)
        B = torch.linalg.solve_triangular(L, image.mT, upper=False).mT  # (b, r), B B^T
        squares, V = torch.linalg.eigh(B.mT @ B)
        squares, V = squares.flip(0), V.flip(1)
        values = (squares - tiny).clamp_(min=0)
        return cls(B @ (V / squares.sqrt()), values, values[-1].item() + max(shift, tiny))

    def power(self, X: Tensor, exponent: float) -> Tensor:
        """P^exponent X: (b, c) -> (b, c)."""
        rest = self.damping**exponent
        inner = (self.values + self.damping).pow_(exponent).sub_(rest)
        P: Tensor = rest * X + self.vectors @ (inner[:, None] * (self.vectors.mT @ X))
        return P

    def largest(self, A: Tensor, generator: torch.Generator) -> float:
        """The top eigenvalue of P^-1/2 A P^-1/2, by power iteration: A (b, b), symmetric."""
        return top_eigenvalue(self.power(self.power(A, -0.5).mT, -0.5), generator)
