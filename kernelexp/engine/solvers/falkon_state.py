"""What falkon reads and what it carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.linalg import CholeskyFactor, add_gram_, mirror_
from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.solvers.state import Derived, Iterate, System


@dataclass(frozen=True)
class Factors:
    """The preconditioner's, float64.

    Attributes:
        T: factor of K(Z, Z) = L L^T.
        A: factor of L^T L / p + ridge I.
    """

    T: CholeskyFactor
    A: CholeskyFactor

    @classmethod
    def of(cls, T: CholeskyFactor, ridge: float) -> Factors:
        """With A made from T."""
        gram = torch.zeros_like(T.array)
        add_gram_(gram, T.array.tril())  # L^T L
        mirror_(gram)
        gram.div_(len(gram)).diagonal().add_(ridge)
        return cls(T, CholeskyFactor(gram))

    def solve(self, R: Tensor) -> Tensor:
        """L^-T A^-1 L^-1 R: (p, c) -> (p, c)."""
        return self.T.solve_upper(self.A.solve(self.T.solve_lower(R)))


@dataclass(frozen=True)
class FalkonSystem(System):
    """What the iteration reads; what has p rows in float64.

    Attributes:
        K: K(X, Z), kept as far as there is room; of several ranks each has its own rows.
        top_eigenvalue: lambda_1 of K(Z, Z) / p, an estimate of that of K / n.
        factors: of the preconditioner; of several ranks the first has them.
        jitter: share of the diagonal of K(Z, Z) that was added to it for that.
        right: K(Z, X) Y, (p, c).
    """

    K: KernelOperator
    top_eigenvalue: float
    factors: Factors | None
    jitter: float
    right: Tensor

    def derived(self) -> Derived:
        return {
            **self.of_kernel(self.top_eigenvalue),
            "n_centers": len(self.centers),
            "rows_kept": self.plan.kept_rows,
            "jitter": self.jitter,
        }

    def precondition(self, R: Tensor) -> Tensor:
        """L^-T A^-1 L^-1 R / n, near H^-1 R: (p, c) -> (p, c)."""
        return self.by_factors(lambda both: both.solve(R)).div_(len(self.targets))

    def by_factors(self, product: Callable[[Factors], Tensor]) -> Tensor:
        """What is computed with the factors, on each rank."""

        def made() -> Tensor:
            assert self.factors is not None
            return product(self.factors)

        return self.ranks.once(made)


@dataclass(kw_only=True)
class FalkonIterate(Iterate):
    """What the iteration carries: ``krylov.ConjugateGradients`` and f(X).

    Attributes:
        solution: alpha, (p, c), float64.
        residual, direction, weight: see ``krylov``.
        outputs: f(X), (n, c).
        relative_residual: max over outputs of |right - H alpha| / |right|, carried along.
    """

    solution: Tensor
    residual: Tensor
    direction: Tensor
    weight: Tensor
    outputs: Tensor
    relative_residual: float = 1.0
