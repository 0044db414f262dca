"""Outputs at the same points epoch after epoch: K(X, Z) is computed once where there is room."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from kernelexp.engine.operator import KernelOperator
from kernelexp.engine.plan import with_cache
from kernelexp.engine.points import Points
from kernelexp.engine.solvers import AnyTraining


class Evaluation:
    """f(X) of a training under way, at fixed points.

    Rows of K(X, Z) that fit beside everything the solver's plan holds are kept, and added to the
    training's plan; a solver that does one epoch needs none.
    """

    def __init__(self, training: AnyTraining, X: Tensor) -> None:
        """X (m, d) on the problem's device and of its type."""
        problem, Z = training.problem, training.system.centers
        if training.plan.test_rows is None:
            epochs = training.solver.max_epochs
            wanted, row_bytes = len(X) if epochs > 1 else 0, X.element_size() * len(Z)
            plan, keep = with_cache(training.plan, problem.limits, wanted, row_bytes, epochs)
            training.plan = replace(plan, test_rows=keep)
        points = Points.of(X, problem.precision)
        centers = problem.points_of(Z)
        self.training = training
        self.K: KernelOperator = training.system.kernel(
            points, centers, keep=training.plan.test_rows or 0
        )

    def outputs(self) -> Tensor:
        """f(X) as training stands, (m, c)."""
        weights: Tensor = self.training.weights()
        return self.K.matmul(weights)
