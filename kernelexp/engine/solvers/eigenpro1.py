"""EigenPro 1: SGD with a preconditioner on all n coordinates; Ma, Belkin 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from kernelexp.engine.checks import number
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.sgd import SGD, SGDState
from kernelexp.engine.solvers.sgd_plan import SGDPlan
from kernelexp.engine.spectrum import Spectrum, extend


@dataclass(frozen=True)
class EigenPro1(SGD):
    """SGD whose gradient loses 1 - tau lambda_{q+1} / lambda_i of its first q directions.

    P = I - sum_{i <= q} (1 - tau lambda_{q+1} / lambda_i) e_i (x) e_i in the RKHS (section 4, the
    RKHS version), e_i = sum_j U_ji k(x_j, .) / sqrt(n lambda_i) with U (n, q) the eigenvectors of K on
    all n points, where EigenPro 2 has weights on s of them: n q numbers and n q c operations a step
    more. Differs from the paper: the vectors extended from the subsample are rotated to Ritz vectors
    of K, for which K U is computed once, n^2 d operations or one epoch; predictions are a state
    (``solvers.sgd``), so the correction of all n weights is put off to the end of the epoch.

    Attributes:
        q: directions taken down (paper: 160), fewer where the subsample has not as many.
        tau: <= 1; how far they go down, to tau lambda_{q+1}.
        batch_size: m; null: 256 (paper), or n.
    """

    name: ClassVar[str] = "eigenpro1"
    corrects_all: ClassVar[bool] = True
    q: int = 160
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("q", self.q, 1, whole=True)
        number("tau", self.tau, above=0, high=1)

    def fixed_q(self, problem: Problem) -> int:
        return min(self.q, (self.subsample_size or len(problem.X)) - 1)

    def default_batch(self, state: SGDState) -> int:
        return 256

    def make_preconditioner(
        self, problem: Problem, spectrum: Spectrum, q: int | None, plan: SGDPlan
    ) -> Preconditioner:
        kernel, X = BlockedKernel.on(problem.kernel, problem.device), problem.points
        _, U = extend(kernel, X, spectrum)
        KU = kernel(X, X).matmul(U)  # (n, q + 1)
        ritz, W = torch.linalg.eigh((U.mT @ KU).double())
        ritz, W = ritz.flip(0), W.flip(1)[:, :-1].to(U.dtype)
        ritz = ritz.to(U.dtype)  # n lambda_i
        scales = (1 - self.tau * ritz[-1] / ritz[:-1]) / ritz[:-1]
        rows = torch.arange(len(X), device=U.device)
        top = ritz[-1].item() / len(X)
        return Preconditioner.with_features(kernel, X, rows, U @ W, scales, KU @ W, top)
