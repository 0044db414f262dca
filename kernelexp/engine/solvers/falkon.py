"""Falkon: Nystrom kernel ridge regression by preconditioned conjugate gradients; Meanti et al. 2020."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.checks import number
from kernelexp.engine.devices import tiling
from kernelexp.engine.linalg import (
    CholeskyFactor,
    add_gram_,
    conjugate_gradients,
    mirror_,
    relative_residual,
    top_eigenvalue,
)
from kernelexp.engine.model import KernelModel
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.resource import clock, plan_memory, tile_numbers, with_cache
from kernelexp.engine.singular import independent_rows
from kernelexp.engine.solvers.base import RestrictedSolver, State
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.tiles import narrow_matmul


@dataclass
class FalkonState(State):
    """Everything the iteration carries; what has p rows in float64.

    Attributes:
        centers: Z, (p, d).
        rows: K(X, Z), kept as far as there is room.
        top_eigenvalue: lambda_1 of K(Z, Z) / p, an estimate of that of K / n.
        T: factor of K(Z, Z) = L L^T.
        A: factor of L^T L / p + ridge I.
        right: K(Z, X) Y, (p, c).
        weights: alpha, (p, c).
        outputs: f(X), (n, c), carried along.
        residual: max over outputs of |right - H alpha| / |right|, carried along.
    """

    centers: Tensor
    rows: KernelOperator
    top_eigenvalue: float
    T: CholeskyFactor
    A: CholeskyFactor
    right: Tensor
    weights: Tensor
    outputs: Tensor
    residual: float = field(default=1.0, init=False)

    def training_outputs(self) -> Tensor:
        return self.outputs

    def refresh(self) -> None:
        weights = self.model().weights
        for part, K in self.rows.blocks(tiling(self.problem.device).rows):
            self.outputs[part] = narrow_matmul(K, weights)

    def center_outputs(self) -> Tensor:
        return self.T.matmul(self.weights)

    def model(self) -> KernelModel:
        weights = self.weights.to(self.problem.Y.dtype, copy=True)
        return KernelModel(self.problem.kernel, self.centers, weights)

    def derived(self) -> dict[str, Any]:
        beta = self.problem.kernel.diag(self.problem.X).max().item()
        return {
            "m_star": critical_batch_size(beta, self.top_eigenvalue),
            "top_eigenvalue": self.top_eigenvalue,
            "n_centers": len(self.centers),
            "rows_kept": self.rows.kept_rows,
            "jitter": self.T.jitter,
        }

    def residuals(self) -> dict[str, float]:
        return {"relative_residual": self.residual}

    def precondition(self, R: Tensor) -> Tensor:
        """L^-T A^-1 L^-1 R / n, near H^-1 R: (p, c) -> (p, c)."""
        return self.T.solve_upper(self.A.solve(self.T.solve_lower(R))) / len(self.problem.X)


@dataclass(frozen=True)
class Falkon(RestrictedSolver):
    """Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2 over f with p centers.

    H alpha = K(Z, X) Y, H = K(Z, X) K(X, Z) + n ridge K(Z, Z), by conjugate gradients with the
    preconditioner that is exact where the centers stand for the data, K(Z, X) K(X, Z) ~ (n / p)
    K(Z, Z)^2 (eq. 5 and 6). Differs from the paper in form alone: the unknowns are alpha and the
    preconditioner acts on residuals, which gives the same iterates; factors and vectors are float64
    whatever the precision of kernel rows. 16 p^2 bytes, 24 p^2 while they are made; an epoch is one
    iteration, n p d operations, or a pass over memory where K(X, Z) is kept.

    Attributes:
        ridge: >= 0, in the units of a mean loss.
        tolerance: stop at this relative residual of every output.
        epochs: most iterations; null: 20.
    """

    name: ClassVar[str] = "falkon"
    default_epochs: ClassVar[int] = 20
    ridge: float = 1e-6
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ridge", self.ridge, 0)
        number("tolerance", self.tolerance, above=0)

    def setup(self, problem: Problem) -> FalkonState:
        """The two factors, and the right side, which fills what is kept of K(X, Z)."""
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        X, Y = problem.X, problem.Y
        Z, _ = self.choose_centers(problem, problem.generator())
        n, p, c, w = len(X), len(Z), Y.shape[1], X.element_size()
        plan = plan_memory(
            problem.device,
            problem.limits,
            f"falkon with {p} centers",
            "take fewer centers (solver.n_centers)",
            model=16 * (p * p + 512 * p) + 8 * 8 * p * c + 3 * w * n * c + w * p * Z.shape[1],
            setup=8 * (p * p + tile_numbers(n, problem.device)),
            step=w * (kernel.tiling.rows * p + tile_numbers(n, problem.device)),
        )
        plan, keep = with_cache(plan, problem.limits, n, w * p, 1 + self.max_epochs)
        centers = problem.points_of(Z)
        K_ZZ = kernel(centers, centers).dense(Y.new_empty(p, p, dtype=torch.float64))
        # What rows of X's type round off comes squared, and must stay below what the ridge holds.
        eps, largest = torch.finfo(X.dtype).eps, K_ZZ.diagonal().max().item()
        coarse = min(
            (eps * largest) ** 2 / self.ridge if self.ridge else math.inf, eps ** (2 / 3) * largest
        )
        needed = independent_rows(K_ZZ, coarse)
        if (
            needed is not None
        ):  # the others add nothing to the span, and K(Z, Z) could not be factored
            Z, K_ZZ = Z[needed.to(Z.device)], K_ZZ[needed][:, needed].clone()
            centers, p = problem.points_of(Z), len(Z)
        top = top_eigenvalue(K_ZZ, problem.generator()) / p
        T = CholeskyFactor(K_ZZ)
        gram = torch.zeros_like(T.array)
        add_gram_(gram, T.array.tril())  # L^T L
        mirror_(gram)
        gram.div_(p).diagonal().add_(self.ridge)
        rows = kernel(problem.points, centers, keep)
        right = Y.new_zeros(p, c, dtype=torch.float64)
        for part, K in rows.blocks(kernel.tiling.rows):
            right += (K.mT @ Y[part]).double()
        return FalkonState(
            solver=self,
            problem=problem,
            plan=plan,
            centers=Z,
            rows=rows,
            top_eigenvalue=top,
            T=T,
            A=CholeskyFactor(gram),
            right=right,
            weights=torch.zeros_like(right),
            outputs=torch.zeros_like(Y),
        )

    def iterate(self, state: FalkonState) -> Iterator[EpochRecord]:
        """One iteration for each record."""
        n, device = len(state.problem.X), state.problem.device
        image = torch.empty_like(state.outputs)  # K(X, Z) D of the last direction D

        def matmul(D: Tensor) -> Tensor:
            out = state.T.matmul(D).mul_(n * self.ridge)
            for part, K in state.rows.blocks(tiling(device).rows):
                image[part] = narrow_matmul(K, D.to(K.dtype))
                out += (K.mT @ image[part]).double()
            return out

        start = clock(device)
        iterations = conjugate_gradients(matmul, state.precondition, state.right, state.weights)
        for epoch, (R, step) in enumerate(iterations, 1):
            state.outputs.addcmul_(image, step.to(image.dtype))
            state.residual = relative_residual(R, state.right)
            state.converged = state.residual <= self.tolerance
            yield state.record(epoch, clock(device) - start)
            start = clock(device)
