"""Preconditioned conjugate residuals on (K + n ridge I) alpha = Y, where the matrix cannot be factored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.krylov import conjugate_residual_step, start_conjugate_residuals
from kernelexp.engine.krylov_preconditioners import (
    PRECONDITIONERS,
    Given,
    numbers_to_make,
    pairs,
)
from kernelexp.engine.linalg import relative_residual
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Limits, Plan, Sizes, plan_memory, tile_numbers, with_cache
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import (
    MET,
    SOLVED,
    is_rounding,
    rounded_share,
    rounds_off,
    too_coarse,
    truncation,
    unmet,
    unsolved,
)
from kernelexp.engine.solvers.base import MOST_EPOCHS, Sample, Solver
from kernelexp.engine.solvers.cg_state import CGIterate, CGSystem
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import nystrom_spectrum

_SUBSAMPLE = 2000
# What rounding of weights does to f is looked at where an estimate by their size exceeds this share of the targets.
_LOOK = 1e-4


@final
@dataclass(frozen=True)
class CG(Solver[CGSystem, CGIterate]):
    """Conjugate residuals in float64, the top q directions of K deflated to the size of the next.

    Solves (K + n ridge I) alpha = Y. Of the two classical iterations for a symmetric K this is the one
    that lowers the residual itself, and so goes to the least-squares solution of smallest norm where K is
    singular and Y contradicts it (``singular``); a warning says so. Equal rows have the mean of their targets for that,
    since weights that cancel would grow without end. With a ridge there is one solution. The
    preconditioner (``krylov_preconditioners``) has as many directions as half the subsample, since it is used once
    an iteration; the number of iterations grows with sqrt((lambda_q + ridge) / (lambda_n + ridge)). An iteration is
    one product with K and counts as an epoch; with K kept (8 n^2 bytes, as far as there is room) it is one pass over
    memory.

    Attributes:
        tolerance: stop at this relative residual |y - (K + n ridge I) alpha| / |y| of every output.
        q: directions of the preconditioner; null: half the subsample.
        subsample_size: s; null: 2,000.
        preconditioner: ``eigenpro``, EigenPro 1's: the top of the subsample's spectrum, extended; ``nystrom``: that of
            K as the subsample's columns give it; ``rpcholesky``: of q columns, pivots of K; ``none``.
        ridge: >= 0, in the units of a mean loss, as in ``exact``.
        epochs: most iterations; null: 1,000.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(CG(), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "cg"
    default_epochs: ClassVar[int] = MOST_EPOCHS
    tolerance: float = 1e-6
    q: int | None = None
    subsample_size: int | None = None
    preconditioner: str = "eigenpro"
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tolerance", self.tolerance, above=0)
        number("q", self.q, 0, whole=True, optional=True)
        number("subsample_size", self.subsample_size, 2, whole=True, optional=True)
        one_of("preconditioner", self.preconditioner, PRECONDITIONERS)
        number("ridge", self.ridge, 0)
        if self.preconditioner == "none" and self.q is not None:
            raise refuse("q", self.q, "left out with preconditioner=none")

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        n, c, own = sizes.n, sizes.c, sizes.own(sizes.n)
        number("solver.subsample_size", self.subsample_size, 2, n, whole=True, optional=True)
        s = self.subsample_size or min(n, _SUBSAMPLE)
        kind = self.preconditioner
        q = 0 if kind == "none" else s // 2 if self.q is None else self.q
        number("solver.q", q, 0, n if kind == "rpcholesky" else s - 1, whole=True)
        tiles = tile_numbers(n, device)
        plan = plan_memory(
            self.name,
            limits,
            device,
            f"conjugate gradients on {n} points with q={q}",
            "take a smaller solver.q or fewer points (dataset.n_train)",
            model=8 * (own * q + 8 * n * c),
            setup=8 * (numbers_to_make(kind, own, s, q) + tiles),
            step=8 * (n * c + tiles),
        )
        plan, keep = with_cache(plan, limits.asked, own, 8 * n, self.max_epochs)
        return replace(plan, n_centers=n, subsample_size=s, max_q=q, kept_rows=keep)

    def setup(self, problem: Problem, plan: Plan) -> CGSystem:
        """The spectrum; K itself is filled by the first iteration."""
        kernel, points = BlockedKernel(problem.kernel, plan.tiling), problem.points
        s, q, generator = plan.subsample_size, plan.max_q, problem.generator()
        ranks, own, kind = problem.ranks, problem.ranks.own(points), self.preconditioner
        rank = pairs(kind, s, q)
        spectrum = ranks.once(
            lambda: nystrom_spectrum(kernel, points, s, generator, rank, torch.float64), generator
        )
        # Of most points: one far off has directions of its own.
        usual = spectrum.diagonal.median().item()
        least = truncation(problem.Y.dtype) * usual / len(points)
        given = Given(kernel, points, spectrum, q, self.ridge, generator, ranks, least)
        return CGSystem(
            problem=problem,
            plan=plan,
            centers=problem.X,
            targets=problem.Y,
            spectrum=spectrum,
            right=problem.Y.double() if self.ridge else self._reached(problem, kernel),
            shift=len(points) * self.ridge,
            preconditioner=PRECONDITIONERS[kind](given),
            # Last: on a GPU it takes its memory now.
            K=kernel(own, points, keep=min(plan.kept_rows, len(own)), dtype=torch.float64),
        )

    @staticmethod
    def _reached(problem: Problem, kernel: BlockedKernel) -> Tensor:
        """Targets less what is known to be out of reach of K: differences of equal rows, and rows where K is 0."""
        seen = kernel.diag(problem.points).to(problem.device) > 0
        return problem.distinct.means(problem.Y.double()) * seen[:, None]

    def start(self, system: CGSystem, weights: Tensor | None = None) -> CGIterate:
        zeros = torch.zeros_like(system.targets, dtype=torch.float64)
        solution, outputs, nothing = zeros, torch.zeros_like(zeros), zeros[:0]
        if weights is not None:
            solution = weights.to(zeros, copy=True)
            outputs = system.outputs(solution)
        return CGIterate(
            solution=solution,
            residual=nothing,
            preconditioned=nothing,
            image=nothing,
            direction=nothing,
            direction_image=nothing,
            weight=nothing,
            held=nothing if system.targets.dtype == torch.float64 else solution.clone(),
            outputs=outputs,
        )

    def advance(self, system: CGSystem, iterate: CGIterate) -> EpochRecord:
        """One iteration; a residual that meets the tolerance is computed anew."""
        device, precondition = system.problem.device, system.preconditioner.solve
        start = clock(device)
        Y = system.right
        if iterate.fresh:
            start_conjugate_residuals(iterate, system.matmul, precondition, Y)
            iterate.fresh = False
        conjugate_residual_step(iterate, system.matmul, precondition)
        R = iterate.residual
        iterate.iterations += 1
        iterate.relative_residual = relative_residual(R, Y)
        iterate.outputs = (Y - R).sub_(iterate.solution, alpha=system.shift)
        met, stuck = self._ends(Y, R, iterate.preconditioned, iterate.image, system.size)
        rounds = is_rounding(iterate.solution, system.size, Y)
        if system.ranks.agreed(bool((met | stuck | rounds).all())):
            self._end(system, iterate, Y, stuck, rounds)
        if iterate.iterations == MOST_EPOCHS and self.epochs is None and not iterate.converged:
            left = iterate.relative_residual
            iterate.warning = unsolved(left, self.ridge, "more epochs")
        if len(iterate.held):
            self._hold(system, iterate)
        iterate.seconds += clock(device) - start
        return self.record(system, iterate)

    def _ends(
        self, Y: Tensor, R: Tensor, Z: Tensor, KZ: Tensor, size: float
    ) -> tuple[Tensor, Tensor]:
        """Of each output: whether it is met, and whether K sees no more of Z = M^-1 R than rounding.

        The curvature z^T K z that steps are made of is known to eps |K| |z|^2.
        """
        rounding = torch.finfo(Z.dtype).eps * size
        stuck = ((Z * KZ).sum(0) <= rounding * Z.square().sum(0)) & (self.ridge == 0)
        return R.norm(dim=0) <= self.tolerance * Y.norm(dim=0), stuck

    def _end(
        self, system: CGSystem, iterate: CGIterate, Y: Tensor, stuck: Tensor, rounds: Tensor
    ) -> None:
        """It is solved by the residual that was carried along; now look at the true one."""
        iterate.outputs = system.outputs(iterate.solution)
        R = (Y - iterate.outputs).sub_(iterate.solution, alpha=system.shift)
        Z, KZ = iterate.preconditioned, iterate.image
        if bool(stuck.any()):
            Z = system.preconditioner.solve(R)
            KZ = system.matmul(Z)
        met, stuck = self._ends(Y, R, Z, KZ, system.size)
        iterate.relative_residual = relative_residual(R, Y)
        iterate.converged = bool((met | stuck | rounds).all())
        iterate.fresh = not iterate.converged  # it had drifted: begin anew from these weights
        if iterate.converged and not bool(met.all()):
            if self.ridge == 0:
                self._end_in_least_squares(system, iterate, R * ~met)
            elif iterate.relative_residual > SOLVED:
                iterate.warning = unsolved(iterate.relative_residual, self.ridge)
        elif iterate.converged and self.ridge == 0:
            self._say_what_is_unmet(system, iterate, MET * self.tolerance)

    def _hold(self, system: CGSystem, iterate: CGIterate) -> None:
        """End with the last solution that was better, where the model's type cannot hold this one and does worse with it.

        Iterations take up smaller and smaller eigenvalues of K, and weights grow. The model's predictions are looked at
        four times while iterations double, where their rounding may count, and at the end.
        """
        i = iterate.iterations
        octave = 1 << max(0, i.bit_length() - 3)
        end = iterate.converged or iterate.epoch + 1 == self.max_epochs
        if not end and i % octave:
            return
        looks = end or self._may_round_off(system, iterate)
        if not (looks and self._held_is_better(system, iterate)):
            iterate.held = iterate.solution.clone()
            return
        iterate.solution = iterate.held.clone()
        iterate.outputs = system.outputs(iterate.solution)
        R = (system.right - iterate.outputs).sub_(iterate.solution, alpha=system.shift)
        iterate.relative_residual = relative_residual(R, system.right)
        iterate.converged = True
        left_out = "its last iterations are left out, and the norm is a lower bound"
        iterate.warning = too_coarse(system.targets.dtype, left_out, self.ridge)

    def _held_is_better(self, system: CGSystem, iterate: CGIterate) -> bool:
        """Whether the model's type rounds this solution off, and predictions of the one held are nearer to the targets."""
        some, Y = Sample.of(system.problem), system.targets
        predicted = self.predicted(system, iterate, some.rows).double()
        off = some.mean_squares(predicted - self.solved(system, iterate, some.rows))
        if not rounds_off(system.ranks.agreed(rounded_share(off, Y))):
            return False
        targets = Y[some.rows.to(Y.device)]
        points = system.problem.points[some.rows]
        before = system.predictions_at(points, iterate.held.to(Y.dtype))
        was, now = (rounded_share(some.mean_squares(f - targets), Y) for f in (before, predicted))
        return system.ranks.agreed(was < now)

    @staticmethod
    def _may_round_off(system: CGSystem, iterate: CGIterate) -> bool:
        """Whether eps max k(x, x) |alpha|, rounding of f by signs at random, counts before the targets."""
        Y = system.right
        eps = torch.finfo(system.targets.dtype).eps * system.spectrum.diagonal.max().item()
        off = eps * iterate.solution.norm(dim=0) * math.sqrt(len(Y))
        return system.ranks.agreed(bool((off > _LOOK * Y.norm(dim=0)).any()))

    def _end_in_least_squares(self, system: CGSystem, iterate: CGIterate, R: Tensor) -> None:
        """Take out of the weights what K does not see, which lies along R (0 of outputs that are met).

        Not where K sees it, so that f would change: R is then what rounding of large weights left.
        """
        Y, alpha = system.right, iterate.solution
        along = (alpha * R).sum(0) / R.square().sum(0).clamp_(min=torch.finfo(R.dtype).tiny)
        less = alpha.addcmul(R, along, value=-1)
        outputs, size = system.outputs(less), (Y - iterate.outputs).norm(dim=0)
        same = (Y - outputs).norm(dim=0) <= (1 + SOLVED) * size
        iterate.solution = torch.where(same, less, alpha)
        iterate.outputs = torch.where(same, outputs, iterate.outputs)
        left = Y - iterate.outputs
        reach = system.matmul(left).norm(dim=0) / (system.size * Y.norm(dim=0))
        unseen = left.norm(dim=0) / Y.norm(dim=0) if system.hides_others else reach
        iterate.relative_residual = unseen.nan_to_num(0).max().item()
        if iterate.relative_residual > SOLVED:
            other = ["solver=exact"] if system.hides_others else []
            iterate.warning = unsolved(iterate.relative_residual, self.ridge, *other)
            return
        self._say_what_is_unmet(system, iterate, 0.0)

    def _say_what_is_unmet(self, system: CGSystem, iterate: CGIterate, most: float) -> None:
        """Where more than ``most`` of the targets' norm is left, which the system did not ask for."""
        Y, distinct = system.targets.double(), len(system.problem.distinct.first)
        left = relative_residual(Y - iterate.outputs, Y)
        if left > most:
            iterate.warning = unmet(left, len(Y), distinct)

    def weights(self, system: CGSystem, iterate: CGIterate) -> Tensor:
        return iterate.solution.to(system.targets.dtype)

    def training_outputs(self, system: CGSystem, iterate: CGIterate) -> Tensor:
        return iterate.outputs.to(system.targets.dtype)

    def center_outputs(self, system: CGSystem, iterate: CGIterate) -> Tensor:
        return iterate.outputs

    def refresh(self, system: CGSystem, iterate: CGIterate) -> None:
        iterate.outputs = system.outputs(self.weights(system, iterate).double())

    def residuals(self, iterate: CGIterate) -> dict[str, float]:
        return {"relative_residual": iterate.relative_residual}
