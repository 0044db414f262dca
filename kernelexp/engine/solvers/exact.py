"""The dense solution: interpolation, kernel ridge regression, restricted least squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.checks import number, one_of
from kernelexp.engine.linalg import (
    CholeskyFactor,
    add_gram_,
    conjugate_gradients,
    mirror_,
    relative_residual,
    top_eigenvalue,
)
from kernelexp.engine.model import KernelModel
from kernelexp.engine.products import kernel_matmul, kernel_matrix
from kernelexp.engine.resource import (
    clock,
    memory_limit,
    plan_memory,
    tile_numbers,
)
from kernelexp.engine.solvers.base import Problem, RestrictedSolver, State
from kernelexp.engine.solvers.stopping import EpochRecord

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# Refinement ends at this relative residual, or when ten iterations have not halved it (it need not fall
# at each: what conjugate gradients lower is the error in the RKHS norm).
_RESIDUAL, _PATIENCE = 1e-13, 10
# What is held at most, of the size of the matrix: with p < n a quarter of it in rows of K(X, Z).
_BESIDE = 1.3


@dataclass
class ExactState(State):
    """The factored system A alpha = B, of p equations.

    Attributes:
        centers: Z, (p, d).
        factor: of A = K + n ridge I (all centers) or K^T K + n ridge K(Z, Z).
        matmul: W -> A W in float64, from A as it is stored.
        right: B, (p, c), float64.
        weights: alpha, (p, c), float64.
        outputs: f(X), (n, c), float64.
        top_eigenvalue: lambda_1 of K(Z, Z) / p by power iteration, with p < n an estimate of that of K / n.
        residual: max over outputs of |B - A alpha| / |B|, computed, not carried along.
    """

    centers: Tensor
    factor: CholeskyFactor
    matmul: Callable[[Tensor], Tensor]
    right: Tensor
    weights: Tensor
    outputs: Tensor
    top_eigenvalue: float
    residual: float = field(default=1.0, init=False)

    def training_outputs(self) -> Tensor:
        return self.outputs.to(self.problem.Y.dtype)

    def center_outputs(self) -> Tensor:
        Z = self.centers
        if Z is self.problem.X:
            return self.outputs
        points = self.problem.points_of(Z)
        return kernel_matmul(self.problem.kernel, points, points, self.weights)

    def model(self) -> KernelModel:
        weights = self.weights.to(self.problem.Y.dtype)
        return KernelModel(self.problem.kernel, self.centers, weights)

    def derived(self) -> dict[str, Any]:
        beta = self.problem.kernel.diag(self.problem.X).max().item()
        return {
            "m_star": critical_batch_size(beta, self.top_eigenvalue),
            "top_eigenvalue": self.top_eigenvalue,
            "n_centers": len(self.centers),
            "factor_precision": str(self.factor.array.dtype).removeprefix("torch."),
            "jitter": self.factor.jitter,
        }

    def residuals(self) -> dict[str, float]:
        return {"relative_residual": self.residual}


@dataclass(frozen=True)
class Exact(RestrictedSolver):
    """Cholesky factorisation in place, then refinement of the solution in float64.

    Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2 over f = sum_j alpha_j k(., z_j): with all
    centers (K + n ridge I) alpha = Y, with ridge = 0 the interpolating solution; with p < n centers
    (K^T K + n ridge K(Z, Z)) alpha = K^T Y, K = K(X, Z). n^3 / 3 operations and n^2 numbers, or
    n p^2 and p^2.

    What is stated as the residual is that of the system as stored. Where rounding has made the matrix
    indefinite a small ridge is added to the factor alone (``derived.jitter``) and conjugate gradients
    take it back, as far as the precision carries; the norm reached is then a lower bound.

    It solves at once: ``epochs`` and ``stop`` are limits it keeps by doing one "epoch".

    Attributes:
        ridge: >= 0, in the units of a mean loss (scikit-learn's alpha is n times this).
        precision: of matrix and factor: ``float64``, ``float32``, or ``auto``: float64 where it fits.
    """

    name: ClassVar[str] = "exact"
    default_centers: ClassVar[str] = "all"
    default_epochs: ClassVar[int] = 1
    ridge: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ridge", self.ridge, 0)
        one_of("precision", self.precision, ["auto", *PRECISIONS])

    def setup(self, problem: Problem) -> ExactState:
        """Fill and factor the matrix.

        Raises:
            ValueError: where it does not fit, with the size it needs.
        """
        kernel, X, Y = problem.kernel, problem.X, problem.Y
        Z = self.choose_centers(problem, problem.generator())
        n, p, c = len(X), len(Z), Y.shape[1]
        whole = Z is X
        dtype = self._precision(problem, p)
        rows = min(n, max(p // 4, 512))  # of K(X, Z), at a time
        held = (p * p + 512 * p + (0 if whole else rows * p)) * dtype.itemsize
        plan = plan_memory(
            problem.device,
            problem.limits,
            f"an exact solution with {p} centers in {dtype}",
            "take fewer points (dataset.n_train) or centers (solver.n_centers), "
            "solver.precision=float32, or solver=cg",
            model=held + 8 * (n + 6 * p) * c,
            setup=dtype.itemsize * tile_numbers(n, problem.device),
            step=8 * 4 * 512 * 512,
        )
        centers = problem.points_of(Z)
        A = Y.new_empty(p, p, dtype=dtype)
        kernel_matrix(kernel, centers, centers, A)
        top = top_eigenvalue(A, problem.generator()) / p
        if whole:
            A.diagonal().add_(n * self.ridge)
            right = Y.double()
        else:
            A.mul_(n * self.ridge)
            right = Y.new_zeros(p, c, dtype=torch.float64)
            for start in range(0, n, rows):
                part = slice(start, start + rows)
                K = A.new_empty(len(Y[part]), p)
                kernel_matrix(kernel, problem.points[part], centers, K)
                add_gram_(A, K)
                right += (K.mT @ Y[part].to(dtype)).double()
            mirror_(A)
        factor = CholeskyFactor(A)
        weights = torch.zeros_like(right)
        return ExactState(
            solver=self,
            problem=problem,
            plan=plan,
            centers=Z,
            factor=factor,
            matmul=factor.matmul,
            right=right,
            weights=weights,
            outputs=Y.new_zeros(n, c, dtype=torch.float64),
            top_eigenvalue=top,
        )

    def _precision(self, problem: Problem, p: int) -> torch.dtype:
        if self.precision != "auto":
            return PRECISIONS[self.precision]
        return torch.float64 if fits(problem, p, torch.float64) else torch.float32

    def iterate(self, state: ExactState) -> Iterator[EpochRecord]:
        """Solve and refine, once; there is nothing to go on with after that."""
        device = state.problem.device
        start = clock(device)

        def precondition(R: Tensor) -> Tensor:
            return state.factor.solve(R.to(state.factor.array.dtype)).double()

        best, since = 1.0, 0
        for R, _ in conjugate_gradients(state.matmul, precondition, state.right, state.weights):
            left = relative_residual(R, state.right)
            best, since = (left, 0) if left < best / 2 else (best, since + 1)
            if left <= _RESIDUAL or since == _PATIENCE:
                break
        system = state.matmul(state.weights)
        state.residual = relative_residual(state.right - system, state.right)
        problem, Z = state.problem, state.centers
        if Z is problem.X:
            state.outputs = system - len(Z) * self.ridge * state.weights
        else:
            state.outputs = kernel_matmul(
                problem.kernel, problem.points, problem.points_of(Z), state.weights
            )
        state.converged = True
        yield state.record(1, clock(device) - start)


def fits(problem: Problem, p: int, dtype: torch.dtype) -> bool:
    """Whether the matrix of p centers and what is needed beside it fit the memory there is."""
    process, limit = memory_limit(problem.device, problem.limits)
    return process + _BESIDE * dtype.itemsize * p * p < limit
