"""The projection onto span{k(., z_j)}: theta = K(Z, Z)^-1 h, exactly or by EigenPro 2.

For u in the RKHS with values h = u(Z) the function sum_j theta_j k(., z_j) is its orthogonal
projection; Abedsoltan, Belkin, Pandit 2023, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Plan
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.singular import PseudoInverse, factorised
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.full_state import FullSystem
from kernelexp.engine.solvers.problem import Problem

# The largest share that the first projection may leave undone. (Later ones of an inexact projection are
# also given what earlier ones left, which is what it can do least about.)
_MOST_LEFT = 0.9


class Carried(Protocol):
    """What a projection carries from call to call.

    Attributes:
        projection_residual: the largest |h - K theta| / |h| so far, Frobenius norms; -1 before the first.
        projection_generator: the state of the source of an inexact one's draws.
        projection_scale: of its step.
    """

    projection_residual: float
    projection_generator: Tensor
    projection_scale: float


class Projection(Protocol):
    """What EigenPro 3 and 4 need."""

    @property
    def generator(self) -> Tensor:
        """The state of the source of draws before the first call."""

    def __call__(self, h: Tensor, carried: Carried) -> tuple[Tensor, Tensor]:
        """Theta and K(Z, Z) theta: h (p, c) -> (p, c), (p, c).

        Raises:
            ValueError: where most of h is left undone.
        """


@dataclass(frozen=True)
class ExactProjection:
    """By a Cholesky factor of K(Z, Z) made once: p^3 / 3 operations, p^2 c a projection, p^2 numbers.

    Where K(Z, Z) is singular in its precision, by its pseudo-inverse (``singular``); the part of h outside
    its range no function of the centers has, so it counts as done. The residual is measured at the first
    projection.

    Of several ranks the first has the factor and projects for all.

    Attributes:
        factor: of K(Z, Z); None on other ranks.
        ranks: which those are.
    """

    factor: CholeskyFactor | PseudoInverse | None
    ranks: Ranks

    @property
    def generator(self) -> Tensor:
        """Empty: it draws nothing."""
        return torch.empty(0, dtype=torch.uint8)

    def __call__(self, h: Tensor, carried: Carried) -> tuple[Tensor, Tensor]:
        first = carried.projection_residual < 0

        def solved() -> tuple[Tensor, float]:
            assert self.factor is not None
            theta = self.factor.solve(h)
            if not first:
                return theta, carried.projection_residual
            left = _relative(h - self.factor.matmul(theta.double()), h)
            _check(left, "exact", "take projection=inexact or dtype=float64")
            return theta, left

        theta, carried.projection_residual = self.ranks.once(solved)
        return theta, h


@dataclass(frozen=True)
class InexactProjection:
    """By EigenPro 2 on the centers, from zero to a tolerance; p^2 d operations an epoch.

    Attributes:
        system: of EigenPro 2 with the centers as points; each call puts its own targets in.
        tolerance: stop at this relative residual.
        most_epochs: or after so many epochs.
    """

    system: FullSystem
    tolerance: float
    most_epochs: int

    @property
    def generator(self) -> Tensor:
        return self.system.generator

    def __call__(self, h: Tensor, carried: Carried) -> tuple[Tensor, Tensor]:
        solver, system = EigenPro2(), replace(self.system, targets=h.mT.contiguous().mT)
        inner = solver.start(system)
        inner.generator, inner.step_scale = carried.projection_generator, carried.projection_scale
        while True:
            record = solver.step(system, inner)
            image = solver.training_outputs(system, inner)
            left = system.ranks.agreed(_relative(h - image, h))
            if left <= self.tolerance or record.epoch == self.most_epochs:
                break
        if carried.projection_residual < 0:
            _check(left, "inexact", "take projection=exact, or a larger projection_epochs")
        carried.projection_residual = max(carried.projection_residual, left)
        carried.projection_generator, carried.projection_scale = inner.generator, inner.step_scale
        return solver.weights(system, inner), image


def make_projection(
    problem: Problem, plan: Plan, Z: Tensor, tolerance: float, most_epochs: int
) -> Projection:
    """The projection that the plan has room for, onto centers Z (p, d)."""
    on_centers = replace(
        problem, X=Z, Y=problem.Y.new_zeros(len(Z), problem.Y.shape[1]), labels=None
    )
    if plan.projection is None:
        points, kernel = on_centers.points, BlockedKernel(problem.kernel, plan.tiling)
        most = plan.max_rank or None  # of a checkpoint's plan it may not be known
        factor = problem.ranks.first(lambda: factorised(kernel(points, points).dense(), most))
        return ExactProjection(factor, problem.ranks)
    system = EigenPro2().setup(on_centers, _of_centers(plan.projection, len(Z)))
    return InexactProjection(system, tolerance, most_epochs)


def _of_centers(plan: Plan, p: int) -> Plan:
    """The plan of a training on p centers, which may be fewer than were asked for."""
    s = min(plan.subsample_size, p)
    return replace(
        plan,
        subsample_size=s,
        max_q=min(plan.max_q, s - 1),
        max_batch_size=min(plan.max_batch_size, p),
        kept_rows=min(plan.kept_rows, p),
    )


def _check(left: float, kind: str, instead: str) -> None:
    if not left <= _MOST_LEFT:  # also catches nan
        raise ValueError(
            f"projection={kind}: a share of {left:.2g} of what is projected onto the centers is not in the "
            f"projection, must be at most {_MOST_LEFT}; {instead}"
        )


def _relative(R: Tensor, h: Tensor) -> float:
    size = h.norm()
    return (R.norm() / size).item() if size > 0 else 0.0
