"""What a run may be compared with on the test points: ``compare=[exact,nearest_neighbour]``.

One function a comparison: from the training problem and test inputs (m, d) to outputs (m, c). ``learning_curve`` is a prediction of the error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernelexp import peers
from kernelexp.engine import Problem, fit
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.learning_curve import eigenframe, predicted_mse
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import ALONE
from kernelexp.engine.solvers.exact import Exact

EXACT = Exact(precision="float64")
# Distances computed together, in numbers.
_DISTANCES = 2**24
# Test points for each training point from which on eigenvalues at test points predict.
_SEVERAL = 2


def exact(problem: Problem, X: Tensor) -> Tensor:
    """f*(X) of the interpolating solution on the training points, solved in float64.

    Raises:
        ValueError: where it does not fit.
    """

    def outputs() -> Tensor:
        in_double = replace(
            problem, X=problem.X.double(), Y=problem.Y.double(), precision="auto", ranks=ALONE
        )
        try:
            model = fit(EXACT, in_double)
        except ValueError as error:
            raise ValueError(f"compare=[exact]: {error}, or leave the comparison out") from error
        return model.predict(X.double()).to(problem.Y.dtype)

    return problem.ranks.once(outputs)


def nearest_neighbour(problem: Problem, X: Tensor) -> Tensor:
    """The targets of the nearest training points in the Euclidean distance, of classes or numbers."""
    ranks, n = problem.ranks, len(X)
    X = ranks.own(X)
    points = Points.of(X, "ieee")
    nearest = torch.zeros(len(X), dtype=torch.long, device=X.device)
    distance = X.new_full((len(X),), torch.inf)
    rows = max(1, _DISTANCES // max(1, len(X)))
    for start in range(0, len(problem.X), rows):
        part = Points.of(problem.X[start : start + rows].to(X.device), "ieee")
        closest, index = squared_distances(points, part).min(1)
        nearest = torch.where(closest < distance, start + index, nearest)
        distance = torch.minimum(distance, closest)
    return ranks.gather(problem.Y[nearest], n)


COMPARISONS: dict[str, Callable[[Problem, Tensor], Tensor]] = {
    "exact": exact,
    "nearest_neighbour": nearest_neighbour,
    "svm": peers.svm,
    "kernel_ridge": peers.kernel_ridge,
    "boosting": peers.boosting,
}


# What is compared is a number and not outputs.
LEARNING_CURVE = "learning_curve"


def predicted_test_mse(problem: Problem, ridge: float, X: Tensor, Y: Tensor) -> float:
    """The test error of kernel ridge regression as theory has it, from the eigenvalues at the test points X (m, d), targets Y (m, c).

    Raises:
        ValueError: where there are not more test points than training points.
    """
    if len(X) < _SEVERAL * len(problem.X):
        warnings.warn(
            f"compare=[learning_curve]: {len(X):,} test points for {len(problem.X):,} training points; below "
            f"{_SEVERAL} times as many the prediction may be off by a factor: take more test points, or fewer others",
            UserWarning,
            stacklevel=2,
        )

    def predicted() -> float:
        frame = eigenframe(problem.kernel, X, Y)
        try:
            return predicted_mse(*frame, len(problem.X), ridge, sample=len(X))
        except ValueError as error:
            raise ValueError(
                f"compare=[learning_curve]: {error}; take more test points, or leave it out"
            ) from error

    return problem.ranks.once(predicted)


def prediction_error(outputs: Tensor, reference: Tensor) -> float:
    """|f(X) - f*(X)| / |f*(X)| over points and outputs, both (m, c)."""
    return float((outputs - reference).norm() / reference.norm())
