"""The matrix of the exact solver: how much of it is stored, its entries, its factor and the right-hand side."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from kernelexp.engine.centers import CenterRule
from kernelexp.engine.independent import Independent, independent, resolution, tell_of_left_out
from kernelexp.engine.linalg import (
    CholeskyFactor,
    add_gram_,
    eliminate_,
    mirror_,
    power_iteration,
    top_eigenvalue,
)
from kernelexp.engine.operator import BlockedKernel, TiledKernel
from kernelexp.engine.packed import PackedFactor
from kernelexp.engine.plan import (
    GB,
    Limits,
    Plan,
    Sizes,
    matrix_fits,
    plan_memory,
    tile_numbers,
)
from kernelexp.engine.singular import (
    DistinctRows,
    PseudoInverse,
    SingularMatrixWarning,
    factorised,
    largest_rank,
    zero_pivot,
)
from kernelexp.engine.solvers.exact_state import ExactSystem, Factor
from kernelexp.engine.solvers.problem import Problem

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# The share of the numbers of a symmetric matrix that its factor alone has; with p < n centers there is the factor
# of K(Z, Z) beside the matrix.
_PACKED, _WITH_BASIS = 0.5, 2.0
# K(X, Z) is squared where the pivots of K(Z, Z) are above this power of eps: those of the square are above eps^(1/2).
_SQUARED_POWER = 1 / 4
# What a center must add to be in the basis, as a share of its own k(z, z): entries of K in float64 are off by some eps
# before anything is summed, and weights of less are so large that f(X) is rounding.
_LEAST = 1e-13
_NO_BASIS = (
    "K(Z, Z) is nearly singular, and there is memory for one matrix alone: least squares are solved by the square of "
    "K(X, Z), in which what is smallest in K is rounding, and f may fit worse than it could; take more memory, fewer "
    "centers, or a larger ridge"
)


def plan_matrix(
    rule: CenterRule, precision: str, sizes: Sizes, limits: Limits, device: torch.device
) -> Plan:
    """What is held by the first type of the matrix and share of it that fit, with all that is beside it, or the smallest.

    With p < n centers the share is 2 where there is room for a basis, see ``of_some_centers``.

    ``precision``: asked for, or ``auto``.
    """
    types = ["float64", "float32"] if precision == "auto" else [precision]
    shares = [1.0, _PACKED] if rule.takes_all(sizes.n) else [_WITH_BASIS, 1.0]
    *others, smallest = [(name, share) for name in types for share in shares]
    p = min(rule.count(sizes.n), sizes.distinct)
    for name, share in others:
        if matrix_fits(limits, p, PRECISIONS[name], share):
            with suppress(ValueError):  # with what is beside it it does not
                return _plan(rule, p, name, share, sizes, limits, device)
    return _plan(rule, p, *smallest, sizes, limits, device)


def _plan(
    rule: CenterRule,
    p: int,
    precision: str,
    share: float,
    sizes: Sizes,
    limits: Limits,
    device: torch.device,
) -> Plan:
    n, c, w = sizes.n, sizes.c, PRECISIONS[precision].itemsize
    rows = 0 if rule.takes_all(n) else rows_at_once(n, p)
    matrices = max(1, share)  # with their blocks on the diagonal
    held = (share * p * p + 512 * matrices * p + rows * p) * w
    plan = plan_memory(
        "exact",
        limits,
        device,
        f"an exact solution with {p} centers in torch.{precision}",
        "take fewer points (dataset.n_train) or centers (solver.n_centers), "
        "solver.precision=float32, or solver=cg",
        model=held + 8 * (n + 6 * p) * c,
        setup=max(w * tile_numbers(n, device), rule.bytes_to_choose(sizes, device)),
        step=8 * 4 * 512 * 512,
    )
    room = (plan.limit_gb - plan.gigabytes["process"]) * GB - w * matrices * p * p
    most = largest_rank(room, p, w)
    plan = replace(plan, n_centers=p, precision=precision, max_rank=most)
    return replace(plan, packed=share < 1, basis=share > 1)


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
        basis=None,
        factor=factor,
        right=right,
        top_eigenvalue=top,
    )


def of_some_centers(problem: Problem, plan: Plan, Z: Tensor, ridge: float) -> ExactSystem:
    """(K^T W K + n ridge K(Z, Z)) alpha = K^T W Y with K = K(X, Z), W the weights of points.

    K^T K has the square of K's condition number. Where that is too much the unknowns are coefficients of functions
    of norm 1: with K(Z, Z) = L L^T, Phi = K L^-T and alpha = L^-T gamma it is (Phi^T W Phi + n ridge I) gamma =
    Phi^T W Y, whose rows need no more digits than those of K have. Centers that add nothing are left out.
    """
    Y, w, dtype = problem.Y, problem.weights, PRECISIONS[plan.precision]
    n, kernel = len(Y), BlockedKernel(problem.kernel, plan.tiling)
    centers = problem.points_of(Z)
    A = kernel(centers, centers, dtype=dtype).dense()
    top = top_eigenvalue(A, problem.generator()) / len(Z)
    basis = _basis(problem, plan, A, ridge, top)
    if basis is None:
        A.mul_(n * ridge)
    else:
        del A  # of which the basis has its part
        if basis.rows is not None:
            Z = Z[basis.rows.to(Z.device)]
            centers = problem.points_of(Z)
        A = torch.zeros_like(basis.factor.array)
        A.diagonal().fill_(n * ridge)
    p = len(Z)
    right = torch.zeros(p, Y.shape[1], dtype=torch.float64, device=Y.device)
    rows = rows_at_once(n, p)
    for part, K in kernel(problem.points, centers).blocks(rows, A.new_empty(rows, p)):
        if basis is not None:
            eliminate_(basis.factor.array, K)
        right += (K.mT @ (w[part] * Y[part]).to(dtype)).double()
        add_gram_(A, K if problem.point_weights is None else K.mul_(w[part].sqrt()))
    mirror_(A)
    factor = factorised(A, plan.max_rank)
    if plan.basis and isinstance(factor, PseudoInverse):
        warnings.warn(_low_rank(p, factor.rank, plan.precision), SingularMatrixWarning, 2)
    return ExactSystem(
        problem=problem,
        plan=plan,
        centers=Z,
        targets=Y,
        distinct=None,
        scales=Y.new_ones(p, 1, dtype=torch.float64),
        basis=None if basis is None else basis.factor,
        factor=factor,
        right=right,
        top_eigenvalue=top,
    )


def _low_rank(p: int, rank: int, precision: str) -> str:
    return (
        f"K(X, Z) of {p:,} independent centers has rank {rank:,} in {precision}: directions in which it is rounding beside its "
        "largest rows are left out, and f may fit worse than it could; rows far larger than the others should be "
        "rescaled or be centers, or take a larger ridge"
    )


def _basis(problem: Problem, plan: Plan, A: Tensor, ridge: float, top: float) -> Independent | None:
    """Of the functions of the centers, A = K(Z, Z): None where K(X, Z) can be squared, or there is no memory for it.

    A is then the same afterwards. ``top``: lambda_1 of A / p; a direction of eigenvalue mu counts in f where mu is above
    the ridge, and is more than rounding of the square where it is above eps^(1/2) of that.
    """
    dtype, model = A.dtype, problem.Y.dtype
    squares = torch.finfo(dtype).eps ** _SQUARED_POWER
    if not plan.basis:
        factor = CholeskyFactor(A, jitters=False)
        factor.restore()
        held = math.sqrt(torch.finfo(dtype).eps) * top
        if factor.smallest_pivot <= squares and ridge < held:
            warnings.warn(_NO_BASIS, SingularMatrixWarning, stacklevel=2)
        return None
    coarse = torch.finfo(model).eps > torch.finfo(dtype).eps
    least = resolution(model, A.diagonal().mean().item(), ridge) if coarse else 0.0
    made = independent(A, max(least, _LEAST))
    if made.rows is None and made.factor.smallest_pivot > squares:
        made.factor.restore()
        return None
    if coarse:
        tell_of_left_out(made, model, ridge, "dtype=float64")
    elif dtype == torch.float32:
        tell_of_left_out(made, dtype, ridge, "solver.precision=float64")
    return made
