"""Accelerated sketch-and-project: kernel ridge regression on all n points, a block of rows at a time."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.devices import tiling
from kernelexp.engine.linalg import relative_residual
from kernelexp.engine.memory import sent
from kernelexp.engine.nystrom_block import DampedNystrom
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Limits, Plan, Sizes, plan_memory, tile_numbers, with_cache
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import MET, unmet, unsolved
from kernelexp.engine.solvers.askotch_state import AskotchIterate, AskotchSystem, Momentum
from kernelexp.engine.solvers.base import DivergenceError, Solver
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.state import draw_permutation
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import nystrom_spectrum

# Points on which the kernel is judged before training.
_SUBSAMPLE = 500
# Blocks below this size are calls of Python more than products.
_SMALLEST_BLOCK, _BLOCKS = 64, 100
# Directions of a block where none are asked for: at most so many, and this part of it.
_RANK, _RANK_SHARE = 100, 2
# f(X) as carried along is computed anew after so many epochs.
_LOOK = 10
# Training has diverged at this relative residual; it begins with 1.
_GROWTH = 10.0
# Said where it has no ridge and does not arrive: its preconditioner divides by what rounding leaves of K's rank.
_SINGULAR = (
    ", which solver=askotch needs where K is singular; solver=cg and exact end in least squares"
)


@final
@dataclass(frozen=True)
class Askotch(Solver[AskotchSystem, AskotchIterate]):
    """Minimises (1/n) sum |f(x_i) - y_i|^2 + ridge ||f||^2 over f = sum_i alpha_i k(., x_i), block by block.

    Solves (K + n ridge I) alpha = Y as ASkotch does (Rathore, Frangella, Yang, Derezinski, Udell 2024, arXiv
    2407.10070). For each block B of b rows

        z = a v + (1 - a) w                                                       (n, c)
        delta = (1 / L) P^-1 ((K z)_B + n ridge z_B - Y_B)                        (b, c)
        w <- z - delta on B,   v <- beta v + (1 - beta) z - gamma delta on B

    where P = U diag(s) U^T + rho I stands for A_BB = K_BB + n ridge I (``nystrom_block``), L is the top
    eigenvalue of P^-1 A_BB, and beta, gamma, a are Nesterov's with nu = n / b and mu = n ridge / max k(x, x)
    (``Momentum``; mu is kept to 0.1 <= mu nu <= 1: beyond it the constants have no meaning, below it they
    remember more epochs than pays). w has the solution.

    Differs from the paper: K w and K v are carried along, each block adding K(X, X_B) delta to them, which
    takes the n b evaluations that (K z)_B would, and has the loss, the norm and the residual after each epoch
    for nothing; an epoch takes each row once, in an order drawn anew, where the paper draws blocks that may
    overlap, and takes two thirds to four fifths of the epochs for it; mu is divided by max k(x, x), so that a kernel and its
    multiples have the same iterates; L is found by 30 power iterations, not 10. Vectors and blocks are float64;
    K's rows have the type of the data, and f(X) is computed anew in float64 each tenth epoch, at the last, and
    before the tolerance counts as met, so that what it ends with is no rounding.

    Points that coincide are one center: of its m copies, with the mean target, n ridge / m takes the place of
    n ridge, which gives the same function (``exact``), without the tiny eigenvalues that copies make.
    An epoch is n / b blocks and takes n^2 evaluations, or a pass over memory where K is kept, and n b (r + 30)
    operations beside.

    Attributes:
        ridge: >= 0, in the units of a mean loss; 0 where K is far from singular alone, else see ``cg`` and ``exact``.
        block_size: b; null: n / 100, at least 64.
        rank: r of the approximation; null: half the block, or where that is all points b; at most 100.
        tolerance: stop at this relative residual |y - (K + n ridge I) alpha| / |y| of every output.
        epochs: most passes; null: 100.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(Askotch(), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "askotch"
    sharded: ClassVar[bool] = False
    default_epochs: ClassVar[int] = 100
    ridge: float = 1e-6
    block_size: int | None = None
    rank: int | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ridge", self.ridge, 0)
        number("block_size", self.block_size, 1, whole=True, optional=True)
        number("rank", self.rank, 1, whole=True, optional=True)
        number("tolerance", self.tolerance, above=0)

    def count_distinct(self, problem: Problem) -> int:
        return len(problem.distinct.first)

    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        n, c, w = sizes.distinct, sizes.c, sizes.itemsize
        b = min(n, self.block_size or max(_SMALLEST_BLOCK, n // _BLOCKS))
        share = b if b == n else -(-b // _RANK_SHARE)
        rank = min(b, self.rank or min(_RANK, share))
        tiles = tile_numbers(n, device)
        gathered = min(b * n, tiling(device).gathered_bytes // w)
        s = min(sizes.n, _SUBSAMPLE)
        plan = plan_memory(
            self.name,
            limits,
            device,
            f"askotch on {n} points in blocks of {b}",
            "take a smaller solver.block_size or fewer points (dataset.n_train)",
            model=8 * 5 * n * c,
            setup=w * (4.5 * s * s + tiles),
            step=8 * (5 * b * b + 4 * b * rank + 4 * n * c) + w * (gathered + n * c + 2 * tiles),
        )
        plan, keep = with_cache(plan, limits.asked, n, w * n, self.max_epochs)
        return replace(plan, n_centers=n, block_size=b, max_rank=rank, kept_rows=keep)

    def setup(self, problem: Problem, plan: Plan) -> AskotchSystem:
        """The right side and the constants; K itself is filled by the first iteration."""
        X, Y, generator = problem.X, problem.Y.double(), problem.generator()
        kernel, distinct = BlockedKernel(problem.kernel, plan.tiling), problem.distinct
        n, u = len(X), len(distinct.first)
        Z = X if u == n else X[distinct.first.to(X.device)]
        points, masses = problem.points_of(Z), distinct.counts.to(Y)[:, None]
        spectrum = nystrom_spectrum(kernel, problem.points, min(n, _SUBSAMPLE), generator, 1)
        beta, blocks = kernel.diag(Z).max().item(), math.ceil(u / plan.block_size)
        return AskotchSystem(
            problem=problem,
            plan=plan,
            centers=Z,
            targets=problem.Y,
            distinct=distinct,
            right=Y if u == n else distinct.sums(Y) / masses,
            shift=n * self.ridge / masses,
            K=kernel(points, points, plan.kept_rows),
            top_eigenvalue=spectrum.top_eigenvalue,
            beta=beta,
            momentum=Momentum.of(n * self.ridge / beta, blocks),
            generator=generator.get_state(),
        )

    def start(self, system: AskotchSystem, weights: Tensor | None = None) -> AskotchIterate:
        zeros = torch.zeros_like(system.right)
        iterate = AskotchIterate(
            generator=system.generator.clone(),
            order=torch.arange(0),
            solution=zeros,
            outputs=zeros.clone(),
            leader=zeros.clone(),
            leader_outputs=zeros.clone(),
        )
        if weights is not None:
            iterate.solution.copy_(weights)
            iterate.leader.copy_(weights)
            self.refresh(system, iterate)
        return iterate

    def advance(self, system: AskotchSystem, iterate: AskotchIterate) -> EpochRecord | None:
        """One block; at the end of an epoch the residual."""
        device = system.problem.device
        start = clock(device)
        if not iterate.position:
            iterate.order, iterate.generator = draw_permutation(
                iterate.generator, len(system.right)
            )
        index = iterate.order.tensor_split(system.blocks)[iterate.position]
        self._iteration(system, iterate, index)
        iterate.position = (iterate.position + 1) % system.blocks
        ends = iterate.position == 0 and not self._diverged(system, iterate)
        if ends:
            self._look(system, iterate)
        iterate.seconds += clock(device) - start
        return self.record(system, iterate) if ends else None

    def _iteration(self, system: AskotchSystem, iterate: AskotchIterate, index: Tensor) -> None:
        """Project the residual of a block of rows, index (b,) on the host."""
        rows = sent(index, system.problem.device)
        asked = rows if system.K.complete else index
        w, v = iterate.solution, iterate.leader
        K_w, K_v = iterate.outputs, iterate.leader_outputs
        beta, gamma, alpha = system.momentum
        if iterate.step_scale < 1:
            beta, gamma, alpha = Momentum.of(math.inf, system.blocks)
        for slow, fast in ((w, v), (K_w, K_v)):
            slow.lerp_(fast, alpha)  # z
            fast.lerp_(slow, 1 - beta)
        shift = system.shift[rows]
        g = K_w[rows] + shift * w[rows] - system.right[rows]  # (b, c)
        change = self._projected(system, iterate, asked, shift, g)
        K_change = system.targets.new_zeros(system.right.mT.shape).mT
        system.K.add_transposed_matmul(asked, change.to(K_change.dtype), out=K_change)
        w.index_add_(0, rows, change, alpha=-1)
        v.index_add_(0, rows, change, alpha=-gamma)
        K_w -= K_change
        K_v.sub_(K_change, alpha=gamma)

    def _projected(
        self,
        system: AskotchSystem,
        iterate: AskotchIterate,
        asked: Tensor,
        shift: Tensor,
        g: Tensor,
    ) -> Tensor:
        """P^-1 g / L: rows of K by their numbers (b,), their shift (b, 1), g (b, c) -> (b, c)."""
        generator = torch.Generator()
        generator.set_state(iterate.generator)
        K = system.K.entries(asked, asked).double()
        rounding, rank = torch.finfo(system.targets.dtype).eps, min(system.plan.max_rank, len(K))
        P = DampedNystrom.of(K, rank, shift.mean().item(), rounding, generator)
        K.diagonal().add_(shift[:, 0])
        step = iterate.step_scale / P.largest(K, generator)
        iterate.generator = generator.get_state()
        return P.power(g, -1.0).mul_(step)

    def _diverged(self, system: AskotchSystem, iterate: AskotchIterate) -> bool:
        """Whether the residual has grown, and training begins again, more carefully.

        Raises:
            DivergenceError: a second time.
        """
        iterate.relative_residual = system.residual(iterate.solution, iterate.outputs)
        if iterate.relative_residual <= _GROWTH:  # not for nan
            return False
        if iterate.step_scale < 1:
            raise DivergenceError(
                "training diverges, also with half the step and the least acceleration: set a larger "
                f"solver.ridge, solver.block_size below {system.plan.block_size} or dtype=float64"
            )
        warnings.warn(
            "training diverged; started again with half of the step and the least acceleration",
            RuntimeWarning,
            stacklevel=2,
        )
        for name in ("solution", "outputs", "leader", "leader_outputs"):
            getattr(iterate, name).zero_()
        iterate.step_scale /= 2
        iterate.epoch = 0
        return True

    def _look(self, system: AskotchSystem, iterate: AskotchIterate) -> None:
        """Whether it is solved, by f(X) computed anew where it matters."""
        epoch, last = iterate.epoch + 1, iterate.epoch + 1 == self.max_epochs
        if iterate.relative_residual <= self.tolerance or last or epoch % _LOOK == 0:
            self.refresh(system, iterate)
        iterate.converged = iterate.relative_residual <= self.tolerance
        n, u = len(system.targets), len(system.right)
        if iterate.converged and not self.ridge and u < n:
            Y = system.targets.double()
            left = relative_residual(Y - self._outputs(system, iterate), Y)
            iterate.warning = unmet(left, n, u) if left > MET * self.tolerance else None
        elif last and self.epochs is None and not iterate.converged:
            iterate.warning = unsolved(iterate.relative_residual, self.ridge, "more epochs")
            iterate.warning += _SINGULAR * (self.ridge == 0)

    def _outputs(self, system: AskotchSystem, iterate: AskotchIterate) -> Tensor:
        """f(X) in float64, (n, c)."""
        F = iterate.outputs
        return F if len(F) == len(system.targets) else F[system.distinct.group.to(F.device)]

    def weights(self, system: AskotchSystem, iterate: AskotchIterate) -> Tensor:
        return iterate.solution.to(system.targets.dtype)

    def training_outputs(self, system: AskotchSystem, iterate: AskotchIterate) -> Tensor:
        return self._outputs(system, iterate).to(system.targets.dtype)

    def center_outputs(self, system: AskotchSystem, iterate: AskotchIterate) -> Tensor:
        return iterate.outputs

    def refresh(self, system: AskotchSystem, iterate: AskotchIterate) -> None:
        both = system.matmul(torch.cat([iterate.solution, iterate.leader], 1))
        c = system.targets.shape[1]
        iterate.outputs.copy_(both[:, :c])
        iterate.leader_outputs.copy_(both[:, c:])
        iterate.relative_residual = system.residual(iterate.solution, iterate.outputs)

    def residuals(self, iterate: AskotchIterate) -> dict[str, float]:
        return {"relative_residual": iterate.relative_residual}
