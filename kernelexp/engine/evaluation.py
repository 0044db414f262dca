"""Outputs at the same points epoch after epoch: K(X, Z) is computed once where there is room."""

from __future__ import annotations

from torch import Tensor

from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.resource import with_cache
from kernelexp.engine.solvers import State


class Evaluation:
    """f(X) of the model that a solver's state holds, at fixed points.

    Rows of K(X, Z) that fit beside everything the solver's plan holds are kept, and added to the
    plan; a solver that does one epoch needs none.
    """

    def __init__(self, state: State, X: Tensor) -> None:
        """X (m, d) on the problem's device and of its type."""
        problem, Z = state.problem, state.model().centers
        epochs = state.solver.max_epochs
        wanted, row_bytes = len(X) if epochs > 1 else 0, X.element_size() * len(Z)
        state.plan, keep = with_cache(state.plan, problem.limits, wanted, row_bytes, epochs)
        points = Points.of(X, problem.precision)
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        self.state = state
        self.K = kernel(points, problem.points_of(Z), keep)

    def outputs(self) -> Tensor:
        """f(X) as training stands, (m, c)."""
        return self.K.matmul(self.state.model().weights)
