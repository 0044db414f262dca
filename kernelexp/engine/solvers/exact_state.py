"""What the exact solver carries: a system factored in place, its solution, and f(X)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.model import KernelModel
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.singular import DistinctRows, PseudoInverse
from kernelexp.engine.solvers.base import State


@dataclass
class ExactState(State):
    """The factored system A gamma = B, of p equations; alpha = gamma times ``scales``.

    Attributes:
        centers: Z, (p, d), no two alike.
        distinct: how the training points are the centers, where all of them are; None with p < n centers.
        scales: (p, 1): the root of how often each center occurs, 1 with p < n centers.
        factor: of A = S K S + n ridge I, S the scales (all centers), or K^T K + n ridge K(Z, Z); the
            pseudo-inverse where A is singular.
        most_rank: the largest rank that there is memory for a pseudo-inverse of.
        right: B, (p, c), float64.
        gamma: the unknowns, (p, c), float64.
        outputs: f(X), (n, c), float64.
        top_eigenvalue: lambda_1 of K / n by power iteration, with p < n of K(Z, Z) / p, an estimate of it.
        residual: max over outputs of |B - A gamma| / |B|, computed, not carried along; where A is singular
            of |A (B - A gamma)| / (|A| |B|).
    """

    centers: Tensor
    distinct: DistinctRows | None
    scales: Tensor
    factor: CholeskyFactor | PseudoInverse
    most_rank: int
    right: Tensor
    gamma: Tensor
    outputs: Tensor
    top_eigenvalue: float
    residual: float = field(default=1.0, init=False)

    @property
    def weights(self) -> Tensor:
        return (self.gamma * self.scales).to(self.problem.Y.dtype)

    def training_outputs(self) -> Tensor:
        return self.outputs.to(self.problem.Y.dtype)

    def center_outputs(self) -> Tensor:
        if self.distinct is not None:
            return self.outputs[self.distinct.first.to(self.outputs.device)]
        points = self.problem.points_of(self.centers)
        kernel = BlockedKernel.on(self.problem.kernel, self.problem.device)
        return kernel(points, points).matmul(self.gamma * self.scales)

    def model(self) -> KernelModel:
        return KernelModel(self.problem.kernel, self.centers, self.weights)

    def derived(self) -> dict[str, Any]:
        beta = self.problem.kernel.diag(self.problem.X).max().item()
        A = self.factor.array
        return {
            "m_star": critical_batch_size(beta, self.top_eigenvalue),
            "top_eigenvalue": self.top_eigenvalue,
            "n_centers": len(self.centers),
            "factor_precision": str(A.dtype).removeprefix("torch."),
            "rank": self.factor.rank if isinstance(self.factor, PseudoInverse) else len(A),
        }

    def residuals(self) -> dict[str, float]:
        return {"relative_residual": self.residual}
