"""Projected SGD: p centers, n samples, two preconditioners.

f stays in span{k(., z_j)}; over T batches it gathers, and then projects, the steps of EigenPro 2,

    g = f(X_b) - Y_b                                        (m, c)
    f <- proj_Z (f - eta / m sum_T sum_b g k_G(x_b, .))

Abedsoltan, Belkin, Pandit 2023 (T = 1) and Abedsoltan, Ma, Pandit, Belkin 2025 (T > 1; until the
projection the batches are temporary centers, seen by the batches after them). Here:

- The preconditioner's functions are chosen within the span (``spectrum.restricted_spectrum``): what is
  deflated are eigenfunctions of the problem that is solved, the projected one.
- With p < n centers f does not interpolate, g does not go to 0, and SGD with a constant step wanders.
  So from the third epoch on the gradient is that of SAGA (Defazio, Bach, Lacoste-Julien 2014): g of
  the batch minus g of the same points at their last visit, plus the mean of all last ones. It has the
  same expectation and goes to 0, costs a table of n c numbers and no kernel evaluation, and the
  constant step then goes to the least-squares solution geometrically. (Not from the second: what the
  first epoch met is too old, and the loss rises before it falls.)
- The residual of an inexact projection, h - K(Z, Z) theta, is added to the next h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import BatchRule, choose_q
from kernelexp.engine.centers import CenterRule, check_centers
from kernelexp.engine.checks import number, one_of
from kernelexp.engine.memory import sent
from kernelexp.engine.model import predicted_labels
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Limits, Plan, Sizes
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.solvers.minibatch import MiniBatchSolver, largest_diagonal, limited
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.projected_plan import plan_projected
from kernelexp.engine.solvers.projected_state import ProjectedIterate, ProjectedSystem
from kernelexp.engine.solvers.projection import make_projection
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import restricted_spectrum

# The step of SAGA as a share of that of plain SGD: its gradient also carries the noise of the table.
# Measured in benchmarks/results/variance_reduction.md.
_REDUCED_STEP = 1 / 2


@dataclass(frozen=True)
class ProjectedSGD(MiniBatchSolver[ProjectedSystem, ProjectedIterate]):
    """SGD on p centers; a method names T and its batch rule.

    Attributes:
        centers: ``all`` training points, a ``random`` subset, the means of ``kmeans``, pivots by ``rpcholesky``.
        n_centers: p; null: all, or max(1,000, n / 10).
        projection: ``exact`` (Cholesky factor of K(Z, Z)), ``inexact`` (EigenPro 2 on the centers), or ``auto``: exact
            where the factor takes at most half of the memory there is, and pays within the epochs that are asked for.
        projection_tolerance: of the inexact projection, relative residual.
        projection_epochs: the most epochs of one inexact projection.
        variance_reduction: SAGA gradients from the third epoch on; false: plain SGD, as published.
        q: deflated directions; null: as many as keep m*(k_G) within m_max.
        batch_size: m; null: m*(k_G) / 8, or m*(k_G) where each batch is projected inexactly.
        subsample_size: s, centers whose span holds the preconditioner; null: 2,000.
    """

    # Above 1: see EigenPro 2; the projected k_G is smaller still than k_G.
    relaxation: ClassVar[float] = 1.5
    carries: ClassVar[bool] = False
    centers: str | None = None
    n_centers: int | None = None
    projection: str = "auto"
    projection_tolerance: float = 0.1
    projection_epochs: int = 2
    variance_reduction: bool = True
    q: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_centers(self.centers, self.n_centers)
        one_of("projection", self.projection, ["auto", "exact", "inexact"])
        number("projection_tolerance", self.projection_tolerance, above=0, high=1)
        number("projection_epochs", self.projection_epochs, 1, whole=True)
        number("q", self.q, 0, whole=True, optional=True)

    @abstractmethod
    def interval(self, p: int, m: int, d: int, exact: bool) -> int:
        """T for p centers in R^d, batches of m and projections that are exact or not."""

    @abstractmethod
    def batch_rule(self, exact: bool) -> BatchRule:
        """The batch where none is asked for."""

    def exact_is_faster(self, n: int, p: int, d: int) -> bool:
        """Whether exact projections, the factor included, take less time than inexact ones: here always."""
        return True

    @property
    def center_rule(self) -> CenterRule:
        """Which points are the centers."""
        return CenterRule(self.centers, self.n_centers)

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        self.check_subsample(sizes)
        p, projection = self.center_rule.count(sizes.n), self.projection
        if projection == "auto" and not self.exact_is_faster(sizes.n, p, sizes.d):
            projection = "inexact"
        return plan_projected(
            self.name,
            sizes,
            limits,
            device,
            rule=self.center_rule,
            s=self.subsample_size,
            q=self.q,
            m=self.batch_size,
            projection=projection,
            projection_epochs=self.projection_epochs,
            batch_rule=self.batch_rule,
            passes=self.max_epochs,
        )

    def setup(self, problem: Problem, plan: Plan) -> ProjectedSystem:
        """Centers, spectrum, projection."""
        X, Y, points = problem.X, problem.Y, problem.points
        n, kernel, ranks = len(X), BlockedKernel(problem.kernel, plan.tiling), problem.ranks
        generator = problem.generator()
        Z, _ = self.center_rule.choose(X, points, kernel, problem.distinct_rows, generator, ranks)
        p, exact = len(Z), plan.projection is None
        number("solver.subsample_size", self.subsample_size, 2, p, whole=True, optional=True)
        s = min(plan.subsample_size, p)
        number("solver.q", self.q, 0, s - 1, whole=True, optional=True)
        centers = problem.points_of(Z)
        rank = min(plan.max_q, s - 1) + 1
        spectrum, landmarks, V = ranks.once(
            lambda: restricted_spectrum(kernel, points, centers, s, generator, rank), generator
        )
        m_max = problem.limits.max_batch_size or n
        q = min(choose_q(spectrum, m_max) if self.q is None else self.q, V.shape[1] - 1)
        sigma, V = spectrum.values, V[:, :q].contiguous()
        P = Preconditioner.with_features(
            kernel,
            points,
            landmarks,
            V,
            1 - sigma[q] / sigma[:q],
            kernel(ranks.own(points), centers[landmarks]).matmul(V),
            sigma[q].item(),
            ranks,
        )
        own_centers = ranks.own(centers)
        system = ProjectedSystem(
            problem=problem,
            plan=plan,
            centers=Z,
            targets=Y,
            points=points,
            spectrum=spectrum,
            preconditioner=P,
            beta=largest_diagonal(kernel, X, P, ranks),
            batch_size=0,
            relaxation=self.relaxation,
            inflation=1.0,
            generator=generator.get_state(),
            K_ZZ=kernel(own_centers, centers),
            projection=make_projection(
                problem, plan, Z, self.projection_tolerance, self.projection_epochs
            ),
            K=kernel(points, own_centers, keep=plan.kept_rows),  # last: it takes GPU memory
            interval=1,
            center_features=kernel(own_centers, centers[landmarks]).matmul(V),
        )
        rule = self.batch_rule(exact)
        m = self.batch_size or rule(system.m_star, system.m_star_adapted, n, m_max)
        m = limited(min(m, n), self.batch_size, plan.max_batch_size)
        inflation = P.curvature_inflation(kernel, points, m, generator, ranks)
        return replace(
            system,
            batch_size=m,
            inflation=inflation,
            interval=self.interval(p, m, X.shape[1], exact),
            generator=generator.get_state(),
        )

    def start(self, system: ProjectedSystem, weights: Tensor | None = None) -> ProjectedIterate:
        Y, p = system.targets, len(system.centers)
        n, c = Y.shape
        iterate = ProjectedIterate(
            generator=system.generator.clone(),
            order=torch.arange(0),
            alpha=Y.new_zeros(p, c),
            values=Y.new_zeros(p, c),
            table=Y.new_zeros(n if self.variance_reduction else 0, c),
            mean_weights=Y.new_zeros(p, c),
            mean_values=Y.new_zeros(p, c),
            carry=Y.new_zeros(p, c),
            projection_generator=system.projection.generator.clone(),
        )
        if weights is not None:
            iterate.alpha.copy_(weights)
            values = system.K_ZZ.matmul(iterate.alpha)
            iterate.values.copy_(system.ranks.gather(values, p))
        return iterate

    def restart(self, system: ProjectedSystem, iterate: ProjectedIterate) -> None:
        for tensor in (iterate.alpha, iterate.values, iterate.carry):
            tensor.zero_()

    def weights(self, system: ProjectedSystem, iterate: ProjectedIterate) -> Tensor:
        return iterate.alpha

    def training_outputs(self, system: ProjectedSystem, iterate: ProjectedIterate) -> Tensor:
        ranks = system.ranks
        return ranks.all_reduce(system.K.matmul(ranks.own(iterate.alpha)))

    def center_outputs(self, system: ProjectedSystem, iterate: ProjectedIterate) -> Tensor:
        return iterate.values

    def residuals(self, iterate: ProjectedIterate) -> dict[str, float]:
        return {"projection_residual": iterate.projection_residual}

    def batches_a_round(self, system: ProjectedSystem) -> int:
        return system.interval

    def round(
        self, system: ProjectedSystem, iterate: ProjectedIterate, batches: Sequence[Tensor]
    ) -> float:
        """T batches and a projection; the loss of the points met."""
        P, n, ranks = system.preconditioner, len(system.targets), system.ranks
        step = iterate.step_scale * system.step_size(system.batch_size) / system.batch_size
        reduces = iterate.reduces
        if reduces:
            step *= _REDUCED_STEP  # of one sample
        index = torch.cat(list(batches))
        rows = sent(index, system.problem.device)
        targets = system.targets[rows]
        [features] = ranks.picked([P.features], index, rows, n)
        table = iterate.table[rows] if reduces else None
        points = system.points[index] if len(batches) > 1 else None
        p, c = iterate.alpha.shape
        # By columns, as BLAS adds to it fastest.
        h = iterate.alpha.new_zeros(c, system.K.shape[1]).mT
        corrections = h.new_zeros(P.q, c)
        memory = h.new_empty(len(batches[0]), len(h))  # the first batches are the largest
        # g, f(X) - Y as each batch meets it, less the table's where there is one; by columns, see h.
        gradient = -(targets if table is None else targets + table).mT.contiguous().mT
        temporary = torch.empty_like(targets)  # weights of the points met
        start = 0
        for batch in batches:
            b = slice(start, start + len(batch))
            g = gradient[b].addmm_(features[b], corrections, alpha=step)
            share = g if ranks.alone else torch.zeros_like(g)  # of f(X) by this rank's centers
            if points is not None and start:
                system.add_temporary(points, temporary, b, share)
            weights = ranks.own(iterate.alpha).mT.contiguous()
            for part, K in system.picked(batch, memory):  # read once, used twice
                share[part].mT.addmm_(weights, K.mT)
                if not ranks.alone:
                    g[part] += ranks.all_reduce(share[part])
                h.addmm_(K.mT, g[part])
            corrections += P.coefficients(features[b], g)
            if reduces:
                iterate.alpha.add_(iterate.mean_weights, alpha=-step * len(batch))
                iterate.values.add_(iterate.mean_values, alpha=-step * len(batch))
            torch.mul(g, -step, out=temporary[b])
            start = b.stop
        met = gradient if table is None else gradient + table
        if self.variance_reduction:
            iterate.table[rows] = met
        h.addmm_(system.center_features, corrections, alpha=-1)
        h = ranks.gather(h, p).add_(iterate.carry)
        theta, image = system.projection(h, iterate)
        iterate.carry = h - image
        iterate.alpha.add_(theta, alpha=-step)
        iterate.values.add_(image, alpha=-step)
        iterate.mean_weights.add_(theta, alpha=1 / n)
        iterate.mean_values.add_(image, alpha=1 / n)
        return self._count(system, iterate, rows, met)

    def begin_epoch(self, iterate: ProjectedIterate) -> None:
        iterate.squares, iterate.wrong = 0.0, 0
        if not iterate.reduces:  # the table is filled anew; what is carried belongs to the old one
            for tensor in (iterate.mean_weights, iterate.mean_values, iterate.carry):
                tensor.zero_()

    def _count(
        self, system: ProjectedSystem, iterate: ProjectedIterate, rows: Tensor, met: Tensor
    ) -> float:
        """Add what the batches met to the epoch's sums; their loss. One read, for which a GPU is waited for."""
        sums = [met.square().sum(dtype=torch.float64)]
        labels = system.problem.labels
        if labels is not None:
            wrong = predicted_labels(met + system.targets[rows]) != labels[rows]
            sums.append(wrong.sum().double())
        read: list[float] = torch.stack(sums).tolist()
        iterate.squares += read[0]
        iterate.wrong += int(sum(read[1:]))
        return read[0] / met.numel()

    def end_epoch(self, system: ProjectedSystem, iterate: ProjectedIterate) -> EpochRecord:
        """Exact where K(X, Z) is kept, else what was met in passing."""
        if system.K.complete:
            return self.record(system, iterate)
        n, c = system.targets.shape
        error = None if system.problem.labels is None else iterate.wrong / n
        return self.record(system, iterate, iterate.squares / (n * c), error)
