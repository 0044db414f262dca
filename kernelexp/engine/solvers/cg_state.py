"""What a solution by conjugate residuals reads, and what it carries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kernelexp.engine.far_rows import hides_others
from kernelexp.engine.krylov_preconditioners import LowRank
from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.solvers.state import Derived, Iterate, System
from kernelexp.engine.spectrum import Spectrum


@dataclass(frozen=True)
class CGSystem(System):
    """What the iteration reads, in float64.

    Attributes:
        spectrum: of K, from the subsample.
        K: the kernel matrix, kept as far as there is room; of several ranks each has its own rows.
        right: the targets, (n, c); without a ridge their means over equal rows.
        shift: n ridge.
        preconditioner: of K + shift I.
    """

    spectrum: Spectrum
    K: KernelOperator
    right: Tensor
    shift: float
    preconditioner: LowRank

    @property
    def size(self) -> float:
        """|K + shift I|, the largest eigenvalue."""
        return len(self.targets) * self.spectrum.top_eigenvalue + self.shift

    @cached_property
    def hides_others(self) -> bool:
        """Whether rounding of a few rows of K hides what most points have."""
        diagonal = self.problem.kernel.diag(self.problem.points.values)
        return hides_others(diagonal, max(self.size, diagonal.max().item())) > 0

    def derived(self) -> Derived:
        return {
            **self.of_kernel(self.spectrum.top_eigenvalue),
            "q": self.preconditioner.vectors.shape[1],
            "subsample_size": self.spectrum.size,
            "rows_kept": self.plan.kept_rows,
        }

    def outputs(self, W: Tensor) -> Tensor:
        """f(X) = K W: (n, c) -> (n, c)."""
        return self.ranks.gather(self.K.matmul(W), len(W))

    def matmul(self, W: Tensor) -> Tensor:
        """(K + shift I) W: (n, c) -> (n, c)."""
        return self.outputs(W).add_(W, alpha=self.shift)


@dataclass(kw_only=True)
class CGIterate(Iterate):
    """What the iteration carries, in float64: ``krylov.ConjugateResiduals`` and what follows from them.

    Attributes:
        solution: alpha, (n, c).
        residual, preconditioned, image, direction, direction_image, weight: see ``krylov``.
        held: of the alphas looked at the last that the model's type holds, or does best with, (n, c); (0, c) where that is float64.
        outputs: f(X) = Y - residual - shift alpha, (n, c).
        iterations: so far.
        fresh: whether the vectors are still to be made from the solution.
        relative_residual: max over outputs of |y - (K + shift I) alpha| / |y|; where K is singular and this cannot
            go to 0, of |K (y - K alpha)| / (|K| |y|).
    """

    solution: Tensor
    residual: Tensor
    preconditioned: Tensor
    image: Tensor
    direction: Tensor
    direction_image: Tensor
    weight: Tensor
    held: Tensor
    outputs: Tensor
    iterations: int = 0
    fresh: bool = True
    relative_residual: float = 1.0
