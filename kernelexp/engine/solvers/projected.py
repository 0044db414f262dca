"""Projected SGD, the common part of EigenPro 3 and 4: p centers, n samples, two preconditioners.

f stays in span{k(., z_j)}; over T batches it gathers, and then projects, the steps of EigenPro 2,

    g = f(X_b) - Y_b                                        (m, c)
    f <- proj_Z (f - eta / m sum_T sum_b g k_G(x_b, .))

Abedsoltan, Belkin, Pandit 2023 (T = 1) and Abedsoltan, Ma, Pandit, Belkin 2025 (T > 1; until the
projection the batches are temporary centers, seen by the batches after them). Here:

- The preconditioner's functions are chosen within the span (``spectrum.restricted_spectrum``): what
  they take down are eigenfunctions of the problem that is solved, the projected one.
- With p < n centers f does not interpolate, g does not go to 0, and SGD with a constant step wanders.
  So from the third epoch on the gradient is that of SAGA (Defazio, Bach, Lacoste-Julien 2014): g of
  the batch minus g of the same points at their last visit, plus the mean of all last ones. It has the
  same expectation and goes to 0, costs a table of n c numbers and no kernel evaluation, and the
  constant step then goes to the least-squares solution geometrically. (Not from the second: what the
  first epoch met is too old, and the loss rises before it falls.)
- What an inexact projection leaves undone, h - K(Z, Z) theta, is added to the next h.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import choose_q, default_batch_size
from kernelexp.engine.checks import number, one_of
from kernelexp.engine.model import KernelModel, predicted_labels
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.resource import GB, with_cache
from kernelexp.engine.solvers.base import RestrictedSolver
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.projected_plan import plan_projected, projects_exactly
from kernelexp.engine.solvers.projection import ExactProjection, InexactProjection, Projection
from kernelexp.engine.solvers.stochastic import StochasticSolver, StochasticState
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import restricted_spectrum
from kernelexp.engine.tiles import narrow_matmul

_SUBSAMPLE, _MOST_Q = 2000, 500
# Plain epochs before SAGA takes over, and its step as a share of theirs: its gradient also carries the
# noise of the table. Measured in benchmarks/results/variance_reduction.md.
_PLAIN_EPOCHS, _REDUCED_STEP = 2, 1 / 2


@dataclass
class ProjectedState(StochasticState):
    """Everything the iteration carries.

    Attributes:
        centers: Z, (p, d).
        rows: K(X, Z), kept as far as there is room.
        projection: onto the span of the centers.
        interval: T, batches between projections.
        center_features: Phi(Z), (p, q).
        weights: alpha, (p, c).
        values: f(Z) = K(Z, Z) alpha, (p, c).
        table: g of each point at its last visit, (n, c).
        mean_weights: of the preconditioned mean gradient of the table, (p, c).
        mean_values: its values at the centers, (p, c).
        carry: what projections left undone, (p, c).
        visits: epochs begun.
        squares, wrong: sum of g^2 and number of wrong labels met in this epoch.
    """

    centers: Tensor
    rows: KernelOperator
    projection: Projection
    interval: int
    center_features: Tensor
    weights: Tensor
    values: Tensor
    table: Tensor
    mean_weights: Tensor
    mean_values: Tensor
    carry: Tensor
    visits: int = field(default=0, init=False)
    squares: float = field(default=0.0, init=False)
    wrong: float = field(default=0.0, init=False)

    def training_outputs(self) -> Tensor:
        return self.rows.matmul(self.weights)

    def center_outputs(self) -> Tensor:
        return self.values

    def model(self) -> KernelModel:
        return KernelModel(self.problem.kernel, self.centers, self.weights.clone())

    def restart(self) -> None:
        self.visits = 0
        for tensor in (self.weights, self.values, self.carry):
            tensor.zero_()

    def derived(self) -> dict[str, Any]:
        exact = isinstance(self.projection, ExactProjection)
        return {
            **super().derived(),
            "n_centers": len(self.centers),
            "rows_kept": self.rows.kept_rows,
            "projection": "exact" if exact else "inexact",
            "projection_interval": self.interval,
        }

    def residuals(self) -> dict[str, float]:
        return {"projection_residual": self.projection.residual}


@dataclass(frozen=True)
class ProjectedSGD(RestrictedSolver, StochasticSolver):
    """What EigenPro 3 and 4 share; they differ in T.

    Attributes:
        projection: ``exact`` (Cholesky factor of K(Z, Z)), ``inexact`` (EigenPro 2 on the centers), or
            ``auto``: exact where the factor takes at most half of the memory there is.
        projection_tolerance: of the inexact projection, relative residual.
        projection_epochs: the most epochs of one inexact projection.
        variance_reduction: SAGA gradients from the third epoch on; false: plain SGD, as published.
        q: directions taken down; null: as many as keep m*(k_G) within m_max.
        batch_size: m; null: m*(k_G) / 8, or m*(k_G) where each batch is projected inexactly.
        subsample_size: s, centers whose span holds the preconditioner; null: 2,000.
    """

    # See EigenPro 2; the projected k_G is smaller still than k_G.
    relaxation: ClassVar[float] = 1.5
    projection: str = "auto"
    projection_tolerance: float = 0.1
    projection_epochs: int = 2
    variance_reduction: bool = True
    q: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("projection", self.projection, ["auto", "exact", "inexact"])
        number("projection_tolerance", self.projection_tolerance, above=0, high=1)
        number("projection_epochs", self.projection_epochs, 1, whole=True)
        number("q", self.q, 0, whole=True, optional=True)

    @abstractmethod
    def choose_interval(self, p: int, m: int, d: int, exact: bool) -> int:
        """T for p centers in R^d, batches of m and projections that are exact or not."""

    def setup(self, problem: Problem) -> ProjectedState:
        """Centers, spectrum, projection, then what is left of the memory for K(X, Z)."""
        self.check_sizes(problem)
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        X, Y = problem.X, problem.Y
        n, c = Y.shape
        generator = problem.generator()
        Z, _ = self.choose_centers(problem, generator)
        p = len(Z)
        number("solver.subsample_size", self.subsample_size, 2, p, whole=True, optional=True)
        s = self.subsample_size or min(p, _SUBSAMPLE)
        most_q = min(s - 1, _MOST_Q) if self.q is None else self.q
        number("solver.q", self.q, 0, s - 1, whole=True, optional=True)
        exact = projects_exactly(self.projection, problem, p)
        plan_projected(problem, p, s, most_q, 1, exact)  # refuses what cannot work, before the work
        points, centers = problem.points, problem.points_of(Z)
        spectrum, landmarks, V = restricted_spectrum(
            kernel, points, centers, s, generator, most_q + 1
        )
        m_max = problem.limits.max_batch_size or n
        q = min(choose_q(spectrum, m_max) if self.q is None else self.q, V.shape[1] - 1)
        sigma, V = spectrum.values, V[:, :q].contiguous()
        preconditioner = Preconditioner.with_features(
            kernel,
            points,
            landmarks,
            V,
            1 - sigma[q] / sigma[:q],
            kernel(points, centers[landmarks]).matmul(V),
            sigma[q].item(),
        )
        m_star = preconditioner.beta / preconditioner.top_eigenvalue
        m = min(self.batch_size or self.default_batch(m_star, n, m_max, exact), n)
        inflation = preconditioner.curvature_inflation(kernel, points, m, generator)
        limits, row_bytes = problem.limits, X.element_size() * p
        plan = plan_projected(problem, p, s, q, m, exact)
        plan, keep = with_cache(plan, limits, n, row_bytes, self.max_epochs)
        on_centers = replace(problem, X=Z, Y=Y.new_zeros(p, c), labels=None)
        if exact:
            projection: Projection = ExactProjection(on_centers)
        else:  # each epoch of each projection needs K(Z, Z)
            plan, spare = with_cache(plan, limits, p, row_bytes, passes=self.projection_epochs + 1)
            limits = replace(limits, cache_gb=spare * row_bytes / GB)
            projection = InexactProjection(
                replace(on_centers, limits=limits),
                self.projection_tolerance,
                self.projection_epochs,
            )
        return ProjectedState(
            solver=self,
            problem=problem,
            plan=plan,
            spectrum=spectrum,
            preconditioner=preconditioner,
            beta=kernel.diag(X).max().item(),
            batch_size=m,
            relaxation=self.relaxation,
            inflation=inflation,
            generator=generator,
            centers=Z,
            rows=kernel(points, centers, keep),
            projection=projection,
            interval=self.choose_interval(p, m, X.shape[1], exact),
            center_features=kernel(centers, centers[landmarks]).matmul(V),
            weights=Y.new_zeros(p, c),
            values=Y.new_zeros(p, c),
            table=Y.new_zeros(n if self.variance_reduction else 0, c),
            mean_weights=Y.new_zeros(p, c),
            mean_values=Y.new_zeros(p, c),
            carry=Y.new_zeros(p, c),
        )

    def default_batch(self, m_star: float, n: int, m_max: int, exact: bool) -> int:
        """The batch where none is asked for."""
        return default_batch_size(m_star, n, m_max)

    def epoch(self, state: ProjectedState, order: Tensor, limit: float) -> bool:
        n, c = state.problem.Y.shape
        batches = order.tensor_split(math.ceil(n / state.batch_size))
        state.visits += 1
        state.squares = state.wrong = 0.0
        if not self._reduces(
            state
        ):  # the table is filled anew; what is carried belongs to the old one
            for tensor in (state.mean_weights, state.mean_values, state.carry):
                tensor.zero_()
        for first in range(0, len(batches), state.interval):
            batch = batches[first : first + state.interval]
            before = state.squares
            self._round(state, batch)
            loss = (state.squares - before) / (sum(len(rows) for rows in batch) * c)
            if not loss <= limit:  # also catches nan
                return False
        return True

    def _reduces(self, state: ProjectedState) -> bool:
        return self.variance_reduction and state.visits > _PLAIN_EPOCHS

    def _round(self, state: ProjectedState, batches: Sequence[Tensor]) -> None:
        """T batches and a projection."""
        problem, P, n = state.problem, state.preconditioner, len(state.problem.X)
        points, kernel = problem.points, BlockedKernel.on(problem.kernel, problem.device)
        step = state.step_size(state.batch_size) / state.batch_size  # of one sample
        reduces = self._reduces(state)
        if reduces:
            step *= _REDUCED_STEP
        h = torch.zeros_like(state.weights)  # (p, c)
        corrections = h.new_zeros(P.q, h.shape[1])
        seen, seen_steps = batches[0][:0], problem.Y[:0]  # the temporary centers and their weights
        for batch in batches:
            K = state.rows.rows(batch)  # (m, p)
            g = narrow_matmul(K, state.weights) - problem.Y[batch]  # (m, c)
            g.addmm_(P.features[batch], corrections, alpha=step)
            if len(seen):
                kernel(points[batch], points[seen]).matmul(seen_steps, out=g)
            self._count(state, batch, g)
            difference = g - state.table[batch] if reduces else g
            h.addmm_(K.mT, difference)
            corrections += P.coefficients(P.features[batch], difference)
            if reduces:
                state.weights.add_(state.mean_weights, alpha=-step * len(batch))
                state.values.add_(state.mean_values, alpha=-step * len(batch))
            if self.variance_reduction:
                state.table[batch] = g
            if len(batches) > 1:
                seen = torch.cat([seen, batch])
                seen_steps = torch.cat([seen_steps, -step * difference])
        h.addmm_(state.center_features, corrections, alpha=-1).add_(state.carry)
        theta, image = state.projection(h)
        state.carry = h - image
        state.weights.add_(theta, alpha=-step)
        state.values.add_(image, alpha=-step)
        state.mean_weights.add_(theta, alpha=1 / n)
        state.mean_values.add_(image, alpha=1 / n)

    def _count(self, state: ProjectedState, batch: Tensor, g: Tensor) -> None:
        state.squares += g.square().sum().item()
        if state.problem.labels is not None:
            wrong = predicted_labels(g + state.problem.Y[batch]) != state.problem.labels[batch]
            state.wrong += wrong.sum().item()

    def record(self, state: ProjectedState, epoch: int, seconds: float) -> EpochRecord:
        """Exact where K(X, Z) is kept, else what was met in passing."""
        if state.rows.complete:
            return state.record(epoch, seconds)
        error = None if state.problem.labels is None else state.wrong / len(state.problem.X)
        return state.record(epoch, seconds, state.squares / state.problem.Y.numel(), error)
