"""The projection onto span{k(., z_j)}: theta = K(Z, Z)^-1 h, exactly or by EigenPro 2.

For u in the RKHS with values h = u(Z) the function sum_j theta_j k(., z_j) is its orthogonal
projection; Abedsoltan, Belkin, Pandit 2023, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from torch import Tensor

from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.products import kernel_matrix
from kernelexp.engine.solvers.base import Problem
from kernelexp.engine.solvers.eigenpro2 import EigenPro2


class Projection(Protocol):
    """What EigenPro 3 and 4 need.

    Attributes:
        residual: the largest |h - K theta| / |h| so far, Frobenius norms.
    """

    residual: float

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Theta and K(Z, Z) theta: h (p, c) -> (p, c), (p, c)."""


class ExactProjection:
    """By a Cholesky factor of K(Z, Z) made once: p^3 / 3 operations, p^2 c a projection, p^2 numbers.

    Where rounding has made K(Z, Z) indefinite a small ridge is in the factor. What it holds back of h
    is known, h - K theta = jitter theta, and counts as the residual; what rounding holds back is
    measured once, at the first projection.
    """

    def __init__(self, problem: Problem) -> None:
        """``problem.X``: the centers Z (p, d)."""
        self.factor = CholeskyFactor(kernel_matrix(problem.kernel, problem.points, problem.points))
        self.residual = 0.0
        self.measured = False

    def __call__(self, h: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.factor.solve(h)
        image = h - self.factor.jitter * theta if self.factor.jitter else h
        off = image
        if not self.measured:
            off, self.measured = self.factor.matmul(theta.double()), True
        self.residual = max(self.residual, _relative(h - off, h))
        return theta, image


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
        self.residual = max(self.residual, left)
        return state.model().weights.clone(), state.predictions.clone()


def _relative(R: Tensor, h: Tensor) -> float:
    size = h.norm()
    return (R.norm() / size).item() if size > 0 else 0.0
