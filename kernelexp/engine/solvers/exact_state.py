"""What the exact solver reads and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.singular import DistinctRows, PseudoInverse
from kernelexp.engine.solvers.state import Derived, Iterate, System

Factor = CholeskyFactor | PackedFactor | PseudoInverse


@dataclass(frozen=True)
class ExactSystem(System):
    """The factored system A gamma = B, of p equations; alpha = S gamma, or L^-T gamma in a ``basis``.

    Attributes:
        distinct: how the training points are the centers, where all of them are; None with p < n centers.
        scales: (p, 1): the root of how often each center occurs, 1 with p < n centers.
        basis: L, K(Z, Z) = L L^T, where the unknowns are coefficients of orthonormal functions; None where they are
            weights of centers.
        factor: of A = S K S + n ridge I, S the scales (all centers), or K^T K + n ridge K(Z, Z), or in a basis
            L^-1 K^T K L^-T + n ridge I; the pseudo-inverse where A is singular.
        right: B, (p, c), float64.
        top_eigenvalue: lambda_1 of K / n by power iteration, with p < n of K(Z, Z) / p, an estimate of it.
    """

    distinct: DistinctRows | None
    scales: Tensor
    basis: CholeskyFactor | None
    factor: Factor
    right: Tensor
    top_eigenvalue: float

    def coefficients(self, gamma: Tensor) -> Tensor:
        """Alpha of gamma: (p, c) -> (p, c), float64."""
        if self.basis is None:
            return gamma * self.scales
        return self.basis.solve_upper(gamma.to(self.basis.array.dtype)).double()

    def at_points(self, gamma: Tensor, image: Tensor, ridge: float) -> Tensor:
        """f(X), (n, c), where all points are centers: without the kernel, of ``image``, A gamma."""
        assert self.distinct is not None
        n = len(self.distinct.group)
        at_centers = (image - n * ridge * gamma) / self.scales
        return at_centers[self.distinct.group.to(gamma.device)]

    def found_singular(self) -> PseudoInverse:
        """A^+ in place of a Cholesky factor whose pivots did not tell, and in its memory."""
        if isinstance(self.factor, CholeskyFactor):
            factor = PseudoInverse(self.factor.array, self.plan.max_rank)
            object.__setattr__(self, "factor", factor)
        assert isinstance(self.factor, PseudoInverse)
        return self.factor

    @property
    def rank(self) -> int:
        """The numerical rank of A, as far as it is known: training may find it lower than the factor's pivots say."""
        return self.factor.rank if isinstance(self.factor, PseudoInverse) else len(self.right)

    def held_outputs(self, gamma: Tensor, image: Tensor, factor: Factor, ridge: float) -> Tensor:
        """f(X), (n, c), of weights rounded to the model's type: as ``at_points``, or where fewer points are centers with the kernel."""
        if self.distinct is not None and self.targets.dtype == gamma.dtype:
            return self.at_points(gamma, image, ridge)
        weights = self.coefficients(gamma).to(self.targets.dtype).double()
        if self.distinct is None:
            return self.outputs_at(self.problem.points, weights)
        gamma = weights / self.scales
        return self.at_points(gamma, factor.matmul(gamma), ridge)

    def derived(self) -> Derived:
        return {
            **self.of_kernel(self.top_eigenvalue),
            "n_centers": len(self.centers),
            "factor_precision": self.plan.precision,
            "rank": self.rank,
        }


@dataclass(kw_only=True)
class ExactIterate(Iterate):
    """The solution.

    Attributes:
        gamma: the unknowns, (p, c), float64.
        outputs: f(X), (n, c), float64.
        relative_residual: max over outputs of |B - A gamma| / |B|, computed, not carried along; where A is
            singular of |A (B - A gamma)| / (|A| |B|).
    """

    gamma: Tensor
    outputs: Tensor
    relative_residual: float = 1.0
