"""The dense solution: interpolation, kernel ridge regression, restricted least squares."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine.centers import CenterRule, check_centers
from kernelexp.engine.checks import number, one_of
from kernelexp.engine.krylov import Vectors, conjugate_gradient_step
from kernelexp.engine.linalg import (
    CholeskyFactor,
    relative_residual,
    top_eigenvalue,
)
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.plan import Limits, Plan, Sizes
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import (
    SOLVED,
    PseudoInverse,
    is_rounding,
    rounded_share,
    rounds_off,
    too_coarse,
    unmet,
    unsolved,
)
from kernelexp.engine.solvers.base import Sample, Solver
from kernelexp.engine.solvers.exact_matrix import (
    PRECISIONS,
    of_all_centers,
    of_some_centers,
    plan_matrix,
)
from kernelexp.engine.solvers.exact_state import ExactIterate, ExactSystem, Factor
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord

# Refinement ends at this relative residual, or when ten iterations have not halved it (it need not fall
# at each: what conjugate gradients lower is the error in the RKHS norm), or two where it is as small as
# rounding of many points can be.
_RESIDUAL, _PATIENCE = 1e-13, 10
_ROUNDING, _LITTLE_PATIENCE = 1e-11, 2
# The second takes out what rounding of the first left.
_LEAST_SQUARES_STEPS = 2
# By no name of a setting: estimators have others than the engine.
_WEIGHTS_IGNORED = (
    "weights of points, unless 0, had no effect: with ridge=0, the default, all targets are met whatever they are; "
    "set a ridge above 0, as 1e-3, or leave them out"
)


@final
@dataclass(frozen=True)
class Exact(Solver[ExactSystem, ExactIterate]):
    """Cholesky factorisation in place, then refinement of the solution in float64.

    Minimises (1/n) sum w_i |f(x_i) - y_i|^2 + ridge ||f||^2, w the weights of points, mostly 1, over f = sum_j alpha_j k(., z_j): with all
    centers (K + n ridge I) alpha = Y, with ridge = 0 the interpolating solution; with p < n centers
    (K^T K + n ridge K(Z, Z)) alpha = K^T Y, K = K(X, Z), in a basis of functions of norm 1 where K(Z, Z) is nearly
    singular. n^3 / 3 operations and n^2 numbers, or n p^2, in the basis 2 n p^2, and 2 p^2. Where n^2 numbers do not fit, and all points are centers, the factor alone is stored, n^2 / 2 numbers
    (``packed``), and refinement computes K anew; a singular matrix is then refused.

    Points that coincide are one center, whose target is the mean of theirs. Where the matrix is singular
    the solution is that of least squares with the smallest norm, by its pseudo-inverse (``singular``); a
    warning says so if targets are not met, and another if they are and points have weights. The residual is that of
    the system as stored.

    It solves at once: ``epochs`` and ``stop`` are limits it keeps by doing one "epoch".

    Attributes:
        centers: ``all`` training points, a ``random`` subset, the means of ``kmeans``, pivots by ``rpcholesky``.
        n_centers: p; null: all, or max(1,000, n / 10) with other ``centers``.
        ridge: >= 0, in the units of a mean loss (scikit-learn's alpha is n times this).
        precision: of matrix and factor: ``float64``, ``float32``, or ``auto``: float64 where it fits.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(Exact(), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "exact"
    sharded: ClassVar[bool] = False
    weighted: ClassVar[bool] = True
    default_epochs: ClassVar[int] = 1
    direct: ClassVar[bool] = True
    centers: str | None = None
    n_centers: int | None = None
    ridge: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_centers(self.centers, self.n_centers)
        number("ridge", self.ridge, 0)
        one_of("precision", self.precision, ["auto", *PRECISIONS])

    @property
    def center_rule(self) -> CenterRule:
        """Which points are the centers."""
        return CenterRule(self.centers, self.n_centers, default="all")

    def count_distinct(self, problem: Problem) -> int:
        n = len(problem.X)
        return len(problem.distinct.first) if self.center_rule.takes_all(n) else n

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        return plan_matrix(self.center_rule, self.precision, sizes, limits, device)

    def setup(self, problem: Problem, plan: Plan) -> ExactSystem:
        """Fill and factor the matrix."""
        kernel = BlockedKernel(problem.kernel, plan.tiling)
        Z, distinct = self.center_rule.choose(
            problem.X, problem.points, kernel, problem.distinct_rows, problem.generator()
        )
        if distinct is None:
            return of_some_centers(problem, plan, Z, self.ridge)
        return of_all_centers(problem, plan, Z, distinct, self.ridge)

    def start(self, system: ExactSystem, weights: Tensor | None = None) -> ExactIterate:
        """Nothing: a direct solution gains nothing from given weights."""
        n, c = system.targets.shape
        outputs = system.right.new_zeros(n, c)
        return ExactIterate(gamma=torch.zeros_like(system.right), outputs=outputs)

    def advance(self, system: ExactSystem, iterate: ExactIterate) -> EpochRecord:
        """Solve and refine, once; there is nothing to go on with after that."""
        problem, factor = system.problem, system.factor
        start = clock(problem.device)
        if isinstance(factor, PackedFactor):
            image = self._refine(system, iterate, factor)
        elif isinstance(factor, CholeskyFactor):
            solved = False
            if not factor.restored:
                image = self._refine(system, iterate, factor)
                solved = self._is_solved(system, iterate)
                if not solved or (self.ridge == 0 and not self._is_held(system, iterate)):
                    factor.restore()  # singular, as pivots did not tell
            if factor.restored:
                try:
                    factor = system.found_singular()
                except ValueError:
                    if not solved:
                        raise
        if isinstance(factor, PseudoInverse):
            image = self._least_squares(system, iterate, factor)
            coarser = torch.finfo(system.targets.dtype).eps > torch.finfo(factor.array.dtype).eps
            if coarser and not self._is_held(system, iterate):
                image = self._coarser(system, iterate, factor, image)
        self._judge(system, iterate, factor, image)
        if isinstance(factor, PackedFactor) and not self._is_solved(system, iterate):
            # There is no matrix to make a pseudo-inverse of.
            rounded = too_coarse(system.targets.dtype, "f is rounded off", self.ridge)
            iterate.warning = iterate.warning or rounded
        iterate.seconds += clock(problem.device) - start
        return self.record(system, iterate)

    def _judge(
        self,
        system: ExactSystem,
        iterate: ExactIterate,
        factor: Factor,
        image: Tensor,
    ) -> None:
        """Whether it is solved, and what is to be said; ``image``: A gamma."""
        coarse = isinstance(factor, PseudoInverse) and factor.coarse
        iterate.converged = coarse or iterate.relative_residual <= SOLVED
        if coarse:
            left_out = (
                "directions of K below its eps^(2/3) are left out, and the norm is a lower bound"
            )
            iterate.warning = too_coarse(system.targets.dtype, left_out, self.ridge)
        elif not iterate.converged:
            ways = ["solver.precision=float64"] if system.plan.precision == "float32" else []
            iterate.warning = unsolved(iterate.relative_residual, self.ridge, *ways)
        elif system.distinct is not None and self.ridge == 0:
            # Targets that are not met, though a model with all centers should meet them.
            Y = system.targets.double()
            left = relative_residual(Y - system.at_points(iterate.gamma, image, self.ridge), Y)
            if left > SOLVED:
                iterate.warning = unmet(left, len(Y), len(system.centers), system.rank)
            elif system.problem.point_weights is not None:
                warnings.warn(_WEIGHTS_IGNORED, UserWarning, stacklevel=2)

    def _is_solved(self, system: ExactSystem, iterate: ExactIterate) -> bool:
        """Whether the residual is small, by weights of a size that can be worked with."""
        if iterate.relative_residual > SOLVED:
            return False
        if self.ridge > 0 or system.distinct is None:
            return True
        size = system.top_eigenvalue * len(system.targets)
        return not bool(is_rounding(iterate.gamma, size, system.right).any())

    def _is_held(self, system: ExactSystem, iterate: ExactIterate) -> bool:
        """Whether f is what it was solved to be when the model computes it, in its type."""
        if system.distinct is None or system.targets.dtype == torch.float64:
            return True
        some = Sample.of(system.problem)
        off = self.predicted(system, iterate, some.rows).double()
        off -= self.solved(system, iterate, some.rows)
        return not rounds_off(rounded_share(some.mean_squares(off), system.targets))

    def _coarser(
        self, system: ExactSystem, iterate: ExactIterate, factor: PseudoInverse, image: Tensor
    ) -> Tensor:
        """By fewer directions, whose weights are smaller, where the model is nearer to its targets so; A gamma."""
        some, Y, rank = Sample.of(system.problem), system.targets, factor.rank
        targets, before = Y[some.rows.to(Y.device)], replace(iterate, gamma=iterate.gamma.clone())
        factor.truncate(Y.dtype, system.plan.max_rank)
        fewer = self._least_squares(system, iterate, factor)
        off, now = (
            rounded_share(some.mean_squares(self.predicted(system, i, some.rows) - targets), Y)
            for i in (before, iterate)
        )
        if now < off or off == math.inf:
            return fewer
        iterate.gamma, iterate.outputs = before.gamma, before.outputs
        iterate.relative_residual = before.relative_residual
        factor.rank, factor.coarse = rank, False  # of what stays
        return image

    def _least_squares(
        self, system: ExactSystem, iterate: ExactIterate, factor: PseudoInverse
    ) -> Tensor:
        """By the pseudo-inverse; A gamma."""
        A, right = factor.array, system.right
        iterate.gamma.zero_()
        for _ in range(_LEAST_SQUARES_STEPS):
            left = right - factor.matmul(iterate.gamma)
            iterate.gamma += factor.solve(left.to(A.dtype)).double()
        image = factor.matmul(iterate.gamma)
        left = right - image
        size = top_eigenvalue(A, system.problem.generator()) * right.norm(dim=0)
        reach = (factor.matmul(left).norm(dim=0) / size).nan_to_num_(0)
        iterate.relative_residual = reach.max().item()
        iterate.outputs = system.held_outputs(iterate.gamma, image, factor, self.ridge)
        return image

    def _refine(
        self, system: ExactSystem, iterate: ExactIterate, factor: CholeskyFactor | PackedFactor
    ) -> Tensor:
        """Conjugate gradients with the factor as preconditioner; A gamma of the best iterate, which stays."""
        right, dtype = system.right, PRECISIONS[system.plan.precision]

        def precondition(R: Tensor) -> Tensor:
            return factor.solve(R.to(dtype)).double()

        best, halved, since = math.inf, math.inf, 0
        v = Vectors.of(right)
        while best > _RESIDUAL and since < (_LITTLE_PATIENCE if best < _ROUNDING else _PATIENCE):
            conjugate_gradient_step(v, factor.matmul, precondition)
            left = relative_residual(v.residual, right)
            if left < best:
                best = left
                iterate.gamma.copy_(v.solution)
            halved, since = (left, 0) if left < halved / 2 else (halved, since + 1)
        image = factor.matmul(iterate.gamma)
        iterate.relative_residual = relative_residual(right - image, right)
        iterate.outputs = system.held_outputs(iterate.gamma, image, factor, self.ridge)
        return image

    def weights(self, system: ExactSystem, iterate: ExactIterate) -> Tensor:
        return system.coefficients(iterate.gamma).to(system.targets.dtype)

    def training_outputs(self, system: ExactSystem, iterate: ExactIterate) -> Tensor:
        return iterate.outputs.to(system.targets.dtype)

    def solved(self, system: ExactSystem, iterate: ExactIterate, rows: Tensor) -> Tensor:
        return system.outputs_at(system.problem.points[rows], system.coefficients(iterate.gamma))

    def center_outputs(self, system: ExactSystem, iterate: ExactIterate) -> Tensor:
        if system.distinct is not None:
            return iterate.outputs[system.distinct.first.to(iterate.outputs.device)]
        points = system.problem.points_of(system.centers)
        return system.kernel(points, points).matmul(system.coefficients(iterate.gamma))

    def residuals(self, iterate: ExactIterate) -> dict[str, float]:
        return {"relative_residual": iterate.relative_residual}
