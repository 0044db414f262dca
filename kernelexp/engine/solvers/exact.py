"""The dense solution: interpolation, kernel ridge regression, restricted least squares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kernelexp.engine.checks import number, one_of
from kernelexp.engine.linalg import (
    CholeskyFactor,
    add_gram_,
    conjugate_gradients,
    mirror_,
    relative_residual,
    top_eigenvalue,
)
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.resource import (
    clock,
    memory_limit,
    plan_memory,
    tile_numbers,
)
from kernelexp.engine.singular import (
    SOLVED,
    PseudoInverse,
    factorised,
    is_rounding,
    rounds_off,
    too_coarse,
    unmet,
    unsolved,
)
from kernelexp.engine.solvers.base import RestrictedSolver
from kernelexp.engine.solvers.exact_state import ExactState
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# Refinement ends at this relative residual, or when ten iterations have not halved it (it need not fall
# at each: what conjugate gradients lower is the error in the RKHS norm).
_RESIDUAL, _PATIENCE = 1e-13, 10
# What is held at most, of the size of the matrix: with p < n a quarter of it in rows of K(X, Z).
_BESIDE = 1.3
# The second takes out what rounding of the first left.
_LEAST_SQUARES_STEPS = 2
# What a pseudo-inverse holds beside the matrix, of its size: G, Q and what makes them.
_PSEUDO_INVERSE = 3


@dataclass(frozen=True)
class Exact(RestrictedSolver):
    """Cholesky factorisation in place, then refinement of the solution in float64.

    Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2 over f = sum_j alpha_j k(., z_j): with all
    centers (K + n ridge I) alpha = Y, with ridge = 0 the interpolating solution; with p < n centers
    (K^T K + n ridge K(Z, Z)) alpha = K^T Y, K = K(X, Z). n^3 / 3 operations and n^2 numbers, or
    n p^2 and p^2.

    Points that coincide are one center, whose target is the mean of theirs. Where the matrix is singular
    the solution is that of least squares with the smallest norm, by its pseudo-inverse (``singular``);
    ``state.warning`` says so if targets are not met. The residual is that of the system as stored.

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
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        X, Y = problem.X, problem.Y
        Z, distinct = self.choose_centers(problem, problem.generator())
        n, p, c = len(X), len(Z), Y.shape[1]
        dtype = self._precision(problem, p)
        rows = min(n, max(p // 4, 512))  # of K(X, Z), at a time
        held = (p * p + 512 * p + (0 if distinct is not None else rows * p)) * dtype.itemsize
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
        kernel(centers, centers).dense(A)
        scales = Y.new_ones(p, 1, dtype=torch.float64)
        if distinct is not None:
            if p < n:  # sum over points = sum over centers, each as often as it occurs
                scales = distinct.counts.to(scales)[:, None].sqrt()
                A.mul_(scales).mul_(scales.mT)
            right = distinct.means(Y.double()).mul_(scales)
            top = top_eigenvalue(A, problem.generator()) / n
            A.diagonal().add_(n * self.ridge)
        else:
            top = top_eigenvalue(A, problem.generator()) / p
            A.mul_(n * self.ridge)
            right = Y.new_zeros(p, c, dtype=torch.float64)
            for start in range(0, n, rows):
                part = slice(start, start + rows)
                K = A.new_empty(len(Y[part]), p)
                kernel(problem.points[part], centers).dense(K)
                add_gram_(A, K)
                right += (K.mT @ Y[part].to(dtype)).double()
            mirror_(A)
        held, limit = memory_limit(problem.device, problem.limits)
        most = max(1, (limit - held) // (_PSEUDO_INVERSE * dtype.itemsize * p))
        return ExactState(
            solver=self,
            problem=problem,
            plan=plan,
            centers=Z,
            distinct=distinct,
            scales=scales,
            factor=factorised(A, most),
            most_rank=most,
            right=right,
            gamma=torch.zeros_like(right),
            outputs=Y.new_zeros(n, c, dtype=torch.float64),
            top_eigenvalue=top,
        )

    def _precision(self, problem: Problem, p: int) -> torch.dtype:
        if self.precision != "auto":
            return PRECISIONS[self.precision]
        return torch.float64 if fits(problem, p, torch.float64) else torch.float32

    def iterate(self, state: ExactState) -> Iterator[EpochRecord]:
        """Solve and refine, once; there is nothing to go on with after that."""
        problem, factor = state.problem, state.factor
        start = clock(problem.device)
        if isinstance(factor, CholeskyFactor):
            self._refine(state, factor)
            if not self._is_solved(state):  # the factor could not tell: singular all the same
                factor.restore()
                factor = state.factor = PseudoInverse(factor.array, state.most_rank)
        if isinstance(factor, PseudoInverse):
            self._least_squares(state, factor)
            if not self._is_held(state):  # fewer directions, with smaller weights
                dtype = problem.Y.dtype
                factor = state.factor = PseudoInverse(factor.array, state.most_rank, dtype)
                self._least_squares(state, factor)
        coarse = isinstance(factor, PseudoInverse) and factor.coarse
        state.converged = coarse or state.residual <= SOLVED
        if coarse:
            state.warning = too_coarse(
                problem.Y.dtype, "directions of K below its eps^(2/3) are left out"
            )
        elif not state.converged:
            state.warning = unsolved(state.residual)
        elif state.distinct is not None and self.ridge == 0:
            state.warning = self._unmet(state, self._outputs(state, state.gamma))
        state.outputs = self._outputs(state, state.weights.double() / state.scales)
        yield state.record(1, clock(problem.device) - start)

    def _outputs(self, state: ExactState, gamma: Tensor) -> Tensor:
        """f(X) of given unknowns, (n, c): without the kernel where A has it."""
        problem, distinct = state.problem, state.distinct
        if distinct is None:
            weights, centers = gamma * state.scales, problem.points_of(state.centers)
            kernel = BlockedKernel.on(problem.kernel, problem.device)
            return kernel(problem.points, centers).matmul(weights)
        n = len(distinct.group)
        at_centers = (state.factor.matmul(gamma) - n * self.ridge * gamma) / state.scales
        return at_centers[distinct.group.to(gamma.device)]

    def _unmet(self, state: ExactState, outputs: Tensor) -> str | None:
        """What is to be said where targets are not met that a model with all centers should meet."""
        Y = state.problem.Y.double()
        left = relative_residual(Y - outputs, Y)
        if left <= SOLVED:
            return None
        return unmet(left, len(Y), len(state.centers), state.derived()["rank"])

    def _is_solved(self, state: ExactState) -> bool:
        """Whether the residual is small, by weights of a size that can be worked with and held."""
        if state.residual > SOLVED:
            return False
        if self.ridge > 0 or state.distinct is None:
            return True
        size = state.top_eigenvalue * len(state.problem.X)
        rounds = bool(is_rounding(state.gamma, size, state.right).any())
        return not rounds and self._is_held(state)

    def _is_held(self, state: ExactState) -> bool:
        """Whether f(X) stays what it is when the weights are rounded to the type of the model."""
        if state.distinct is None:
            return True
        held = self._outputs(state, state.weights.double() / state.scales)
        return not rounds_off(held, self._outputs(state, state.gamma), state.problem.Y.dtype)

    def _least_squares(self, state: ExactState, factor: PseudoInverse) -> None:
        A, right = factor.array, state.right
        state.gamma.zero_()
        for _ in range(_LEAST_SQUARES_STEPS):
            left = right - factor.matmul(state.gamma)
            state.gamma += factor.solve(left.to(A.dtype)).double()
        left = right - factor.matmul(state.gamma)
        size = top_eigenvalue(A, state.problem.generator()) * right.norm(dim=0)
        state.residual = (factor.matmul(left).norm(dim=0) / size).nan_to_num_(0).max().item()

    def _refine(self, state: ExactState, factor: CholeskyFactor) -> None:
        """Conjugate gradients with the factor as preconditioner; the best iterate stays."""
        matmul, right = factor.matmul, state.right

        def precondition(R: Tensor) -> Tensor:
            return factor.solve(R.to(factor.array.dtype)).double()

        best, halved, since = math.inf, math.inf, 0
        W = torch.zeros_like(state.gamma)
        for R, _ in conjugate_gradients(matmul, precondition, right, W):
            left = relative_residual(R, right)
            if left < best:
                best = left
                state.gamma.copy_(W)
            halved, since = (left, 0) if left < halved / 2 else (halved, since + 1)
            if left <= _RESIDUAL or since == _PATIENCE:
                break
        state.residual = relative_residual(right - matmul(state.gamma), right)


def fits(problem: Problem, p: int, dtype: torch.dtype) -> bool:
    """Whether the matrix of p centers and what is needed beside it fit the memory there is."""
    process, limit = memory_limit(problem.device, problem.limits)
    return process + _BESIDE * dtype.itemsize * p * p < limit
