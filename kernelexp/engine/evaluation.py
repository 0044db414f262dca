"""Outputs at the same points epoch after epoch: K(X, Z) is computed once where there is room."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.plan import with_cache
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import led
from kernelexp.engine.solvers import AnyTraining


class Evaluation:
    """f(X) of a training under way, at fixed points.

    Rows of K(X, Z) that fit beside everything the solver's plan holds are kept, and added to the
    training's plan; a solver that does one epoch needs none.
    """

    def __init__(self, training: AnyTraining, X: Tensor) -> None:
        """X (m, d) on the problem's device and of its type."""
        self.training, self.ranks, self._rows = training, training.problem.ranks, len(X)
        self._X = X if training.solver.moves else None
        if training.solver.moves:
            return
        problem, Z = training.problem, training.system.centers
        if training.plan.test_rows is None:
            epochs = training.solver.max_epochs
            wanted = -(-len(X) // problem.ranks.size) if epochs > 1 else 0
            row_bytes = X.element_size() * len(Z)
            plan, keep = with_cache(training.plan, problem.limits, wanted, row_bytes, epochs)
            training.plan = replace(plan, test_rows=keep)
        points = problem.ranks.own(Points.of(X, problem.precision))
        keep = min(training.plan.test_rows or 0, len(points))
        centers = problem.points_of(Z)
        self.K: KernelOperator = training.system.kernel(points, centers, keep=keep)

    @led
    def outputs(self) -> Tensor:
        """f(X) as training stands, (m, c)."""
        if self._X is not None:
            return self.training.model().predict(self._X)
        weights: Tensor = self.training.weights()
        return self.ranks.gather(self.K.matmul(weights), self._rows)
