"""Kernel ridge regression for a whole grid of ridges from one eigendecomposition, chosen by leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine.centers import CenterRule, check_centers
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.far_rows import tell_of_hidden
from kernelexp.engine.linalg import mean_squares, not_semidefinite
from kernelexp.engine.model import predicted_labels, r2
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Limits, Plan, Sizes, plan_memory
from kernelexp.engine.resource import clock
from kernelexp.engine.solvers.base import Solver
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.state import Derived, Iterate, System
from kernelexp.engine.solvers.stopping import EpochRecord

CRITERIA = ("loo", "gcv")
# The grid where none is given: so many ridges, from this share of the top eigenvalue of K / n up to it.
_GRID, _SMALLEST = 50, 1e-10
# Numbers of residuals of several ridges that are computed together, and rows of eigenvectors squared together.
_TOGETHER, _ROWS = 512, 4096
# Eigenvalues below minus this share of the largest are no rounding.
_INDEFINITE = 1e-8


@dataclass(frozen=True)
class RidgePathSystem(System):
    """K(X, Z) K(Z, Z)^+ K(Z, X) = Q S Q^T, in float64; of all centers that is K.

    Attributes:
        Q: orthonormal eigenvectors, (n, k).
        S: eigenvalues, (k,).
        back: (p, k): alpha = ``back`` (Q^T Y / (S + n ridge)).
        coefficients: Q^T Y, (k, c).
        beyond: Y - Q Q^T Y, (n, c).
        share_beyond: |e_i - Q Q^T e_i|^2 for each point i, (n,).
        ridges: the grid, (m,).
    """

    Q: Tensor
    S: Tensor
    back: Tensor
    coefficients: Tensor
    beyond: Tensor
    share_beyond: Tensor
    ridges: Tensor

    def derived(self) -> Derived:
        return {
            **self.of_kernel(self.S.max().item() / len(self.targets)),
            "n_centers": len(self.centers),
            "rank": len(self.S),
        }

    def left(self, ridge: Tensor) -> Tensor:
        """What is left of each direction, n ridge / (S + n ridge), for ridges (m,): (k, m)."""
        shift = len(self.targets) * ridge
        return shift / (self.S[:, None] + shift)

    def residuals(self, ridges: Tensor) -> Tensor:
        """Y - f(X) for each of the ridges (m,): (n, m, c)."""
        weighted = self.left(ridges)[:, :, None] * self.coefficients[:, None]
        products = self.Q @ weighted.flatten(1)
        return products.view(len(self.Q), *weighted.shape[1:]).add_(self.beyond[:, None])


@dataclass(kw_only=True)
class RidgePathIterate(Iterate):
    """What was found: a number for each ridge of the grid, (m,) each, and which ridge it is.

    Attributes:
        loo_mse: mean over points and outputs of (y_i - f_i(x_i))^2, f_i trained without point i.
        loo_score: share of points whose label f_i predicts; of targets the R2 of f_i(x_i).
        gcv: mean (y - f)^2 / (1 - d / n)^2, d the effective dimension.
        norm: ||f||.
        dimension: effective dimension, the trace of K (K + n ridge)^-1.
        mse: training error.
        chosen: the place in the grid; -1 before.
    """

    loo_mse: Tensor
    loo_score: Tensor
    gcv: Tensor
    norm: Tensor
    dimension: Tensor
    mse: Tensor
    chosen: int = -1


@final
@dataclass(frozen=True)
class RidgePath(Solver[RidgePathSystem, RidgePathIterate]):
    """All ridges at the cost of an eigendecomposition, and the one with the smallest leave-one-out error.

    Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2, as ``exact`` does, for each ridge of a grid. With K = Q S Q^T and
    r = n ridge the residuals are Q (r / (S + r)) Q^T Y, those of leave-one-out (y_i - f(x_i)) / (1 - h_i) with
    1 - h_i = sum_j Q_ij^2 r / (S_j + r), without training anything again. With p < n centers K is
    K(X, Z) K(Z, Z)^+ K(Z, X), whose eigenvectors take n p^2 operations instead of some 10 n^3.

    Craven, Wahba 1979 (GCV); Golub, Heath, Wahba 1979; Rifkin, Lippert 2007, for the eigenvalues.

    Attributes:
        ridges: the grid, in the units of a mean loss; null: 50 from 1e-10 of the largest eigenvalue of K / n to it.
        by: ``loo``, the leave-one-out mean square error, or ``gcv``.
        centers: ``all`` training points, a ``random`` subset, the means of ``kmeans``, pivots by ``rpcholesky``.
        n_centers: p; null: all, or max(1,000, n / 10) with other ``centers``.

    >>> from kernelexp.engine import KERNELS, Problem, prepare
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> Y = torch.sin(6 * X) + 0.3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0)).double()
    >>> training = prepare(RidgePath(), Problem(KERNELS["gaussian"](bandwidth=0.5), X, Y))
    >>> _ = list(training.run())
    >>> error = training.model().predict(X) - torch.sin(6 * X)  # noise of 0.3 is smoothed away
    >>> error.square().mean().sqrt().item() < 0.15
    True
    """

    name: ClassVar[str] = "ridge_path"
    sharded: ClassVar[bool] = False
    default_epochs: ClassVar[int] = 1
    direct: ClassVar[bool] = True
    ridges: list[float] | None = None
    by: str = "loo"
    centers: str | None = None
    n_centers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_centers(self.centers, self.n_centers)
        one_of("by", self.by, CRITERIA)
        if self.ridges is not None and not self.ridges:
            raise refuse("ridges", self.ridges, "numbers above 0, or null")
        for ridge in self.ridges or ():
            number("ridges", ridge, above=0)

    @property
    def center_rule(self) -> CenterRule:
        """Which points are the centers."""
        return CenterRule(self.centers, self.n_centers, default="all")

    def count_distinct(self, problem: Problem) -> int:
        n = len(problem.X)
        return len(problem.distinct.first) if self.center_rule.takes_all(n) else n

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        n, c, p = sizes.n, sizes.c, min(self.center_rule.count(sizes.n), sizes.distinct)
        whole = p == n and self.center_rule.takes_all(n)  # one row that repeats another is enough
        plan = plan_memory(
            self.name,
            limits,
            device,
            f"the eigenvectors of {p} centers",
            "take fewer points (dataset.n_train) or centers (solver.n_centers), or solver=exact with one ridge",
            model=8 * (n * p + (p * p if not whole else 0) + 5 * n * c),
            setup=8 * (3 * p * p if whole else 2 * n * p + 4 * p * p),
            step=8 * (n * (_TOGETHER + len(self.ridges or range(_GRID))) + _ROWS * p),
        )
        return replace(plan, n_centers=p)

    def setup(self, problem: Problem, plan: Plan) -> RidgePathSystem:
        """Take K apart."""
        X, Y, kernel = problem.X, problem.Y.double(), BlockedKernel(problem.kernel, plan.tiling)
        Z, _ = self.center_rule.choose(
            X, problem.points, kernel, problem.distinct_rows, problem.generator()
        )
        centers, n = problem.points_of(Z), len(X)
        A = kernel(centers, centers).dense(Y.new_empty(len(Z), len(Z)))
        T, V = _eigen(A)
        tell_of_hidden(A.diagonal(), T[-1].item())
        # Where all points are centers, which then all differ, it is K itself.
        if len(Z) == n and self.center_rule.takes_all(n):
            S, Q = T, V
            # Weights along what K does not see would do nothing but round f off.
            known = _above_rounding(S)
            unseen, S, Q = Q[:, ~known], S[known], Q[:, known]
            back, beyond, share = Q, unseen @ (unseen.mT @ Y), unseen.square().sum(1)
        else:
            known = _above_rounding(T)
            V = V[:, known] / T[known].sqrt()
            features = kernel(problem.points, centers).dense(Y.new_empty(n, len(Z))) @ V
            S, U = _eigen(features.mT @ features)
            known = _above_rounding(S)
            S, U = S[known], U[:, known]
            Q, back = features @ (U / S.sqrt()), V @ (U * S.sqrt())
            beyond = Y - Q @ (Q.mT @ Y)
            share = (1 - Q.square().sum(1)).clamp_(min=0)
        ridges = Y.new_tensor(self.ridges or _grid(S.max().item() / n))
        return RidgePathSystem(
            problem=problem,
            plan=plan,
            centers=Z,
            targets=problem.Y,
            Q=Q,
            S=S,
            back=back,
            coefficients=Q.mT @ Y,
            beyond=beyond,
            share_beyond=share,
            ridges=ridges,
        )

    def start(self, system: RidgePathSystem, weights: Tensor | None = None) -> RidgePathIterate:
        """Nothing: a direct solution gains nothing from given weights."""
        loo_mse, loo_score, gcv, norm, dimension, mse = system.ridges.new_zeros(
            6, len(system.ridges)
        )
        return RidgePathIterate(
            loo_mse=loo_mse, loo_score=loo_score, gcv=gcv, norm=norm, dimension=dimension, mse=mse
        )

    def advance(self, system: RidgePathSystem, iterate: RidgePathIterate) -> EpochRecord:
        """The whole path, once."""
        problem, n = system.problem, len(system.targets)
        start = clock(problem.device)
        kept = system.share_beyond[:, None].repeat(1, len(system.ridges))  # 1 - h, (n, m)
        for first in range(0, n, _ROWS):
            rows = slice(first, first + _ROWS)
            kept[rows] += system.Q[rows].square() @ system.left(system.ridges)
        Y = system.targets.double()
        each = max(1, _TOGETHER // Y.shape[1])
        for first in range(0, len(system.ridges), each):
            some = slice(first, first + each)
            left = system.residuals(system.ridges[some])
            iterate.mse[some] = mean_squares(left).mean(1)
            left /= kept[:, some, None]
            squares = mean_squares(left)
            iterate.loo_mse[some] = squares.mean(1)
            if problem.labels is None:
                iterate.loo_score[some] = r2(squares, Y)
                continue
            for i in range(left.shape[1]):
                right = predicted_labels(Y - left[:, i]) == problem.labels
                iterate.loo_score[first + i] = right.double().mean()
        share = 1 - system.left(system.ridges)  # S / (S + n ridge), (k, m)
        iterate.dimension[:] = share.sum(0)
        iterate.gcv[:] = iterate.mse / kept.mean(0) ** 2  # 1 - dimension / n would cancel
        squares = system.coefficients.square().sum(1)
        per_eigenvalue = share.square() / system.S.clamp(min=torch.finfo(Y.dtype).tiny)[:, None]
        iterate.norm[:] = (per_eigenvalue.mT @ squares).sqrt()
        by = iterate.loo_mse if self.by == "loo" else iterate.gcv
        iterate.chosen = int(by.nan_to_num(nan=float("inf")).argmin())
        iterate.converged = True
        iterate.seconds += clock(problem.device) - start
        return self.record(system, iterate)

    def weights(self, system: RidgePathSystem, iterate: RidgePathIterate) -> Tensor:
        if iterate.chosen < 0:
            return system.targets.new_zeros(len(system.centers), system.targets.shape[1])
        shift = len(system.targets) * system.ridges[iterate.chosen]
        solved = system.coefficients / (system.S[:, None] + shift)
        return (system.back @ solved).to(system.targets.dtype)

    def training_outputs(self, system: RidgePathSystem, iterate: RidgePathIterate) -> Tensor:
        if iterate.chosen < 0:
            return torch.zeros_like(system.targets)
        left = system.residuals(system.ridges[iterate.chosen : iterate.chosen + 1])[:, 0]
        return (system.targets - left).to(system.targets.dtype)

    def center_outputs(self, system: RidgePathSystem, iterate: RidgePathIterate) -> Tensor:
        if len(system.centers) == len(system.targets) and self.centers != "kmeans":
            return self.training_outputs(system, iterate)
        Z = system.problem.points_of(system.centers)
        return system.kernel(Z, Z).matmul(self.weights(system, iterate))

    def path(self, system: RidgePathSystem, iterate: RidgePathIterate) -> dict[str, list[float]]:
        score = "loo_r2" if system.problem.labels is None else "loo_accuracy"
        found = {
            "ridge": system.ridges,
            "loo_mse": iterate.loo_mse,
            "gcv": iterate.gcv,
            "rkhs_norm": iterate.norm,
            "effective_dimension": iterate.dimension,
            "train_mse": iterate.mse,
            score: iterate.loo_score,
        }
        return {name: values.tolist() for name, values in found.items()}

    def choice(self, system: RidgePathSystem, iterate: RidgePathIterate) -> dict[str, float]:
        wanted = ("ridge", "loo_mse", "effective_dimension", "loo_accuracy", "loo_r2")
        path = self.path(system, iterate)
        return {name: path[name][iterate.chosen] for name in wanted if name in path}


def _grid(top: float) -> Sequence[float]:
    grid: list[float] = torch.logspace(0, 1, _GRID, base=_SMALLEST, dtype=torch.float64).tolist()
    return [top * share for share in reversed(grid)]


def _eigen(A: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending and not negative, and eigenvectors.

    Raises:
        ValueError: where A has negative ones that are no rounding.
    """
    values, vectors = torch.linalg.eigh(A)
    if values[0] < -_INDEFINITE * values[-1] or not values[-1] > 0:
        raise not_semidefinite(len(A))
    return values.clamp_(min=0), vectors


def _above_rounding(values: Tensor) -> Tensor:
    return values > len(values) * torch.finfo(values.dtype).eps * values.max()
