"""The projection onto span{k(., z_j)}: theta = K(Z, Z)^-1 h, exactly or by EigenPro 2.

For u in the RKHS with values h = u(Z) the function sum_j theta_j k(., z_j) is its orthogonal
projection; Abedsoltan, Belkin, Pandit 2023, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from torch import Tensor

from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.singular import factorised
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.problem import Problem

# The largest share that the first projection may leave undone. (Later ones of an inexact projection are
# also given what earlier ones left, which is what it can do least about.)
_MOST_LEFT = 0.9


class Projection(Protocol):
    """What EigenPro 3 and 4 need.

    Attributes:
        residual: the largest |h - K theta| / |h| so far, Frobenius norms.
    """

    residual: float

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Theta and K(Z, Z) theta: h (p, c) -> (p, c), (p, c).

        Raises:
            ValueError: where most of h is left undone.
        """


class ExactProjection:
    """By a Cholesky factor of K(Z, Z) made once: p^3 / 3 operations, p^2 c a projection, p^2 numbers.

    Where K(Z, Z) is singular in its precision, by its pseudo-inverse (``singular``); what that leaves of h
    no function of the centers has, so it counts as done. The residual is measured at the first projection.
    """

    def __init__(self, problem: Problem) -> None:
        """``problem.X``: the centers Z (p, d)."""
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        self.factor = factorised(kernel(problem.points, problem.points).dense())
        self.residual = -1.0  # not measured yet

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.factor.solve(h)
        if self.residual < 0:
            self.residual = _relative(h - self.factor.matmul(theta.double()), h)
            _check(self.residual, "exact", "take projection=inexact or dtype=float64")
        return theta, h


class InexactProjection:
    """By EigenPro 2 on the centers, from zero to a tolerance; p^2 d operations an epoch."""

    def __init__(self, problem: Problem, tolerance: float, most_epochs: int) -> None:
        """``problem``: the centers Z (p, d) and anything (p, c) as targets; the set-up is shared."""
        self.solver = EigenPro2()
        self.state = self.solver.setup(problem)
        self.tolerance, self.most_epochs = tolerance, most_epochs
        self.residual = 0.0

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state
        state.problem = replace(state.problem, Y=h)
        state.restart()
        for record in self.solver.iterate(state):
            left = _relative(h - state.predictions, h)
            if left <= self.tolerance or record.epoch == self.most_epochs:
                break
        if not self.residual:
            _check(left, "inexact", "take projection=exact, or a larger projection_epochs")
        self.residual = max(self.residual, left)
        return state.model().weights, state.predictions.clone()


def _check(left: float, kind: str, instead: str) -> None:
    if not left <= _MOST_LEFT:  # also catches nan
        raise ValueError(
            f"projection={kind}: {left:.2g} of what is projected onto the centers is left undone, must be at "
            f"most {_MOST_LEFT}; {instead}"
        )


def _relative(R: Tensor, h: Tensor) -> float:
    size = h.norm()
    return (R.norm() / size).item() if size > 0 else 0.0
