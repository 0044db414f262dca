"""The EigenPro 2 preconditioner: the top q directions of the kernel, deflated to the next eigenvalue.

With the Nystrom eigensystem (sigma, V) of s subsample points, Phi(x) = k(x, X_s) V and
D_i = (1 - sigma_{q+1} / sigma_i) / (sigma_i s), the adapted kernel is
k_G(x, z) = k(x, z) - Phi(x) D Phi(z)^T; Ma, Belkin 2019, section 4.

With a ridge the kernel that is learned with is k'(x_i, x_j) = k(x_i, x_j) + n ridge delta_ij, whose
interpolation is ridge regression on k: eigenvalues of K' / n are those of K / n plus the ridge, and
max k'(x, x) is n ridge more. The e_i stay those of k, and are deflated from sigma_i + ridge to
sigma_{q+1} + ridge, by D_i = (1 - (sigma_{q+1} + ridge) / (sigma_i + ridge)) / (sigma_i s).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.batch import batch_curvature
from kernelexp.engine.linalg import top_eigenvalue
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points, as_points
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.engine.spectrum import Spectrum

# Rows squared at a time.
_ROWS = 1 << 14
# Points on which the curvature of the adapted kernel is measured.
_CURVATURE_POINTS = 2048


@dataclass(frozen=True)
class Preconditioner:
    """The correction of a step, for the training points it was made for; q = 0 corrects nothing.

    Attributes:
        rows: (s,) the subsample's indices in the training data.
        vectors: V, (s, q).
        scales: D, (q,).
        features: Phi(X) = K(X, X_s) V, (n, q); of several ranks each has its own rows.
        top_eigenvalue: sigma_{q+1}, the top eigenvalue of k_G; with a ridge of k'_G, that much more.
        beta: max_x k_G(x, x) over all n training points; with a ridge of k'_G, n ridge more.
        shift: n ridge.
    """

    rows: Tensor
    vectors: Tensor
    scales: Tensor
    features: Tensor
    top_eigenvalue: float
    beta: float
    shift: float = 0.0

    @property
    def q(self) -> int:
        """The number of deflated directions."""
        return self.features.shape[1]

    @classmethod
    def from_spectrum(
        cls,
        kernel: BlockedKernel,
        X: Tensor | Points,
        spectrum: Spectrum,
        q: int,
        ranks: Ranks = ALONE,
        ridge: float = 0.0,
    ) -> Preconditioner:
        """Build for training points X (n, d); costs one kernel block of n x s."""
        X, sigma = as_points(X), spectrum.values
        V = spectrum.vectors[:, :q].contiguous()
        D = (1 - (sigma[q] + ridge) / (sigma[:q] + ridge)) / (sigma[:q] * spectrum.size)
        own = ranks.own(X)
        features = V.new_empty(len(own), 0)
        if q:
            features = kernel(own, X[spectrum.rows]).matmul(V)
        top = sigma[q].item()
        return cls.with_features(kernel, X, spectrum.rows, V, D, features, top, ranks, ridge)

    @classmethod
    def with_features(
        cls,
        kernel: BlockedKernel,
        X: Points,
        rows: Tensor,
        vectors: Tensor,
        scales: Tensor,
        features: Tensor,
        top_eigenvalue: float,
        ranks: Ranks = ALONE,
        ridge: float = 0.0,
    ) -> Preconditioner:
        """From all its parts but beta, which is found here; ``top_eigenvalue`` is given without the ridge."""
        diagonal = kernel.diag(ranks.own(X)).to(features.device)
        for start in range(0, len(diagonal), _ROWS):
            part = slice(start, start + _ROWS)
            diagonal[part] -= features[part].square() @ scales
        shift, beta = len(X) * ridge, ranks.max(diagonal.max().item())
        top = top_eigenvalue + ridge
        return cls(rows, vectors, scales, features, top, beta + shift, shift)

    def vectors_at(self, rows: Tensor, n: int) -> Tensor:
        """V at rows (m,) of the n training points, 0 at those that are not in the subsample: -> (m, q)."""
        s = len(self.rows)
        at = self.rows.new_full((n,), s)
        at[self.rows] = torch.arange(s, device=at.device)
        padded = torch.cat([self.vectors, self.vectors.new_zeros(1, self.q)])
        return padded[at[rows]]

    def coefficients(self, features: Tensor, g: Tensor) -> Tensor:
        """D Phi_b^T g: (m, q), (m, c) -> (q, c); the step on the subsample is V times this."""
        return (features.T @ g).mul_(self.scales[:, None])

    def curvature_inflation(
        self,
        kernel: BlockedKernel,
        X: Tensor | Points,
        m: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> float:
        """Measured over expected top eigenvalue of K_G(X_b, X_b) / m on a random batch, at least 1.

        Expected is ``batch_curvature``; the measured one is larger where the eigenvectors of the
        subsample are not those of the data. At most 2,048 points are used.
        """
        X = as_points(X)
        m = min(m, _CURVATURE_POINTS, len(X))
        index = torch.randperm(len(X), generator=generator)[:m]
        rows = index.to(self.features.device)
        [Phi] = ranks.picked([self.features], index, rows, len(X))

        def largest() -> float:
            X_b = X[rows]
            K = kernel(X_b, X_b).dense()
            K.addmm_(Phi * self.scales, Phi.T, alpha=-1).diagonal().add_(self.shift)
            return top_eigenvalue(K, generator)

        measured = ranks.once(largest, generator) / m
        return max(1.0, measured / batch_curvature(m, self.beta, self.top_eigenvalue))
