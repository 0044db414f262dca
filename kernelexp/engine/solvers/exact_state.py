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
    """The factored system A gamma = B, of p equations; alpha = gamma times ``scales``.

    Attributes:
        distinct: how the training points are the centers, where all of them are; None with p < n centers.
        scales: (p, 1): the root of how often each center occurs, 1 with p < n centers.
        factor: of A = S K S + n ridge I, S the scales (all centers), or K^T K + n ridge K(Z, Z); the
            pseudo-inverse where A is singular.
        right: B, (p, c), float64.
        top_eigenvalue: lambda_1 of K / n by power iteration, with p < n of K(Z, Z) / p, an estimate of it.
    """

    distinct: DistinctRows | None
    scales: Tensor
    factor: Factor
    right: Tensor
    top_eigenvalue: float

    def at_points(self, gamma: Tensor, image: Tensor, ridge: float) -> Tensor:
        """f(X), (n, c), where all points are centers: without the kernel, of ``image``, A gamma."""
        assert self.distinct is not None
        n = len(self.distinct.group)
        at_centers = (image - n * ridge * gamma) / self.scales
        return at_centers[self.distinct.group.to(gamma.device)]

    def held_outputs(self, gamma: Tensor, factor: Factor, ridge: float) -> Tensor:
        """f(X), (n, c), of weights rounded to the model's type: the same, or where fewer points are centers with the kernel."""
        weights = (gamma * self.scales).to(self.targets.dtype).double()
        if self.distinct is None:
            return self.outputs_at(self.problem.points, weights)
        gamma = weights / self.scales
        return self.at_points(gamma, factor.matmul(gamma), ridge)

    def rank_of(self, factor: Factor) -> int:
        """The numerical rank of A by a factor of it."""
        return factor.rank if isinstance(factor, PseudoInverse) else len(self.right)

    def derived(self) -> Derived:
        return {
            **self.of_kernel(self.top_eigenvalue),
            "n_centers": len(self.centers),
            "factor_precision": self.plan.precision,
            "rank": self.rank_of(self.factor),
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
