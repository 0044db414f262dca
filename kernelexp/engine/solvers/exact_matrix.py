"""The matrix of the exact solver: how much of it is stored, its entries, its factor and the right-hand side."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelexp.engine.linalg import add_gram_, mirror_, power_iteration, top_eigenvalue
from kernelexp.engine.operator import BlockedKernel, TiledKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.plan import Limits, Plan, matrix_fits
from kernelexp.engine.singular import DistinctRows, factorised, zero_pivot
from kernelexp.engine.solvers.exact_state import ExactSystem, Factor
from kernelexp.engine.solvers.problem import Problem

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# The share of the numbers of a symmetric matrix that its factor alone has.
_PACKED = 0.5


def storage(precision: str, p: int, limits: Limits, whole: bool) -> tuple[str, float]:
    """The type of the matrix of p centers and the share of it that is stored: the first that fits, else the smallest.

    ``precision``: asked for, or ``auto``; ``whole``: whether the centers are all the points.
    """
    types = ["float64", "float32"] if precision == "auto" else [precision]
    shares = [1.0, _PACKED] if whole else [1.0]
    choices = [(name, share) for name in types for share in shares]
    fit = (
        (name, share) for name, share in choices if matrix_fits(limits, p, PRECISIONS[name], share)
    )
    return next(fit, choices[-1])


def rows_at_once(n: int, p: int) -> int:
    """Of K(X, Z) with p < n centers."""
    return min(n, max(p // 4, 512))


def of_all_centers(
    problem: Problem, plan: Plan, Z: Tensor, distinct: DistinctRows, ridge: float
) -> ExactSystem:
    """(S K S + n ridge I) gamma = S B: a row for each point that differs, B the means of targets."""
    Y, w, generator = problem.Y, problem.weights, problem.generator()
    n, p, dtype = len(Y), len(Z), PRECISIONS[plan.precision]
    kernel, centers = BlockedKernel(problem.kernel, plan.tiling), problem.points_of(Z)
    masses = distinct.sums(w)
    right = distinct.sums(w * Y).div_(masses)
    scaled = p < n or problem.point_weights is not None
    # A sum over points is one over centers, each as often as it counts.
    scales = masses.sqrt_() if scaled else torch.ones_like(masses)
    right.mul_(scales)
    K = kernel(centers, centers, dtype=dtype)
    factor: Factor
    if plan.packed:
        assert isinstance(K, TiledKernel)  # nothing of it is kept
        start = torch.randn(p, 1, generator=generator, dtype=dtype).to(Y.device)
        factor = PackedFactor(K, scales, n * ridge, zero_pivot(p, dtype))
        top = power_iteration(factor.product, start) / n - ridge
    else:
        A = K.dense()
        if scaled:
            A.mul_(scales).mul_(scales.mT)
        top = top_eigenvalue(A, generator) / n
        A.diagonal().add_(n * ridge)
        factor = factorised(A, plan.max_rank)
    return ExactSystem(
        problem=problem,
        plan=plan,
        centers=Z,
        targets=Y,
        distinct=distinct,
        scales=scales,
        factor=factor,
        right=right,
        top_eigenvalue=top,
    )


def of_some_centers(problem: Problem, plan: Plan, Z: Tensor, ridge: float) -> ExactSystem:
    """(K^T W K + n ridge K(Z, Z)) alpha = K^T W Y with K = K(X, Z), W the weights of points."""
    Y, w, dtype = problem.Y, problem.weights, PRECISIONS[plan.precision]
    n, p = len(Y), len(Z)
    kernel, centers = BlockedKernel(problem.kernel, plan.tiling), problem.points_of(Z)
    A = kernel(centers, centers, dtype=dtype).dense()
    top = top_eigenvalue(A, problem.generator()) / p
    A.mul_(n * ridge)
    right = torch.zeros(p, Y.shape[1], dtype=torch.float64, device=Y.device)
    rows = rows_at_once(n, p)
    for part, K in kernel(problem.points, centers).blocks(rows, A.new_empty(rows, p)):
        right += (K.mT @ (w[part] * Y[part]).to(dtype)).double()
        add_gram_(A, K if problem.point_weights is None else K.mul_(w[part].sqrt()))
    mirror_(A)
    return ExactSystem(
        problem=problem,
        plan=plan,
        centers=Z,
        targets=Y,
        distinct=None,
        scales=Y.new_ones(p, 1, dtype=torch.float64),
        factor=factorised(A, plan.max_rank),
        right=right,
        top_eigenvalue=top,
    )
