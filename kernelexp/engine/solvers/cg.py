"""Preconditioned conjugate residuals on K alpha = Y: interpolation where K cannot be factored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.checks import number
from kernelexp.engine.linalg import conjugate_residuals, relative_residual
from kernelexp.engine.model import KernelModel
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.resource import clock, plan_memory, tile_numbers, with_cache
from kernelexp.engine.singular import SOLVED, is_rounding, rounds_off, too_coarse, unmet, unsolved
from kernelexp.engine.solvers.base import MOST_EPOCHS, Solver, State
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import Spectrum, extend, nystrom_spectrum

_SUBSAMPLE = 2000
# Nothing of a residual R is within reach of K where |K R| is this share of |K| |R|.
_OUT_OF_REACH = 1e-11


@dataclass
class CGState(State):
    """Everything the iteration carries, in float64.

    Attributes:
        spectrum: of K, from the subsample.
        K: the kernel matrix, kept as far as there is room.
        vectors: U, (n, q), orthonormal.
        shrink: (q,), 1 - lambda_q / lambda_i.
        weights: alpha, (n, c).
        outputs: f(X) = Y - residual, (n, c).
        residual: max over outputs of |y - K alpha| / |y|; where K is singular and this cannot go to 0, of
            |K (y - K alpha)| / (|K| |y|).
    """

    spectrum: Spectrum
    K: KernelOperator
    vectors: Tensor
    shrink: Tensor
    weights: Tensor
    outputs: Tensor
    residual: float = field(default=1.0, init=False)

    def training_outputs(self) -> Tensor:
        return self.outputs.to(self.problem.Y.dtype)

    def center_outputs(self) -> Tensor:
        return self.outputs

    def refresh(self) -> None:
        self.outputs = self.K.matmul(self.model().weights.double())

    def model(self) -> KernelModel:
        return KernelModel(
            self.problem.kernel,
            self.problem.X,
            self.weights.to(self.problem.Y.dtype, copy=True),
        )

    def derived(self) -> dict[str, Any]:
        beta = self.problem.kernel.diag(self.problem.X).max().item()
        return {
            "m_star": critical_batch_size(beta, self.spectrum.top_eigenvalue),
            "q": self.vectors.shape[1],
            "top_eigenvalue": self.spectrum.top_eigenvalue,
            "subsample_size": self.spectrum.size,
            "rows_kept": self.K.kept_rows,
        }

    def residuals(self) -> dict[str, float]:
        return {"relative_residual": self.residual}

    def precondition(self, R: Tensor) -> Tensor:
        """M^-1 R with M^-1 = I - U (1 - lambda_q / Lambda) U^T: (n, c) -> (n, c)."""
        return R - self.vectors @ (self.shrink[:, None] * (self.vectors.mT @ R))


@dataclass(frozen=True)
class CG(Solver):
    """Conjugate residuals in float64, the top q directions of K taken down to the q-th.

    Solves K alpha = Y without a ridge. Of the two classical iterations for a symmetric K this is the one
    that lowers |Y - K alpha| itself, and so goes to the least-squares solution of smallest norm where K is
    singular and Y contradicts it (``singular``); ``state.warning`` says so. The preconditioner is that of EigenPro 1 applied to K alpha = Y:
    the top of the spectrum by Nystrom extension, here with as many directions as half the subsample,
    since it is used once an iteration. The number of iterations grows with
    sqrt(lambda_q / lambda_n). An iteration is one product with K and counts as an epoch; with K kept
    (8 n^2 bytes, as far as there is room) it is one pass over memory.

    Attributes:
        tolerance: stop at this relative residual |y - K alpha| / |y| of every output.
        q: directions taken down; null: half the subsample.
        subsample_size: s; null: 2,000.
        epochs: most iterations; null: 1,000.
    """

    name: ClassVar[str] = "cg"
    default_epochs: ClassVar[int] = MOST_EPOCHS
    tolerance: float = 1e-6
    q: int | None = None
    subsample_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tolerance", self.tolerance, above=0)
        number("q", self.q, 0, whole=True, optional=True)
        number("subsample_size", self.subsample_size, 2, whole=True, optional=True)

    def setup(self, problem: Problem) -> CGState:
        """The spectrum; K itself is filled by the first iteration."""
        kernel, Y = BlockedKernel.on(problem.kernel, problem.device), problem.Y
        n, c = Y.shape
        number("solver.subsample_size", self.subsample_size, 2, n, whole=True, optional=True)
        s = self.subsample_size or min(n, _SUBSAMPLE)
        q = s // 2 if self.q is None else self.q
        number("solver.q", q, 0, s - 1, whole=True)
        plan = plan_memory(
            problem.device,
            problem.limits,
            f"conjugate gradients on {n} points with q={q}",
            "take a smaller solver.q or fewer points (dataset.n_train)",
            model=8 * (n * q + 7 * n * c),
            setup=8 * (4.5 * s * s + n * q + tile_numbers(n, problem.device)),
            step=8 * (n * c + tile_numbers(n, problem.device)),
        )
        plan, keep = with_cache(plan, problem.limits, n, 8 * n, self.max_epochs)
        points, rank = problem.points, q + 1
        spectrum = nystrom_spectrum(kernel, points, s, problem.generator(), rank, torch.float64)
        values, U = extend(kernel, points, spectrum, rank)
        return CGState(
            solver=self,
            problem=problem,
            plan=plan,
            spectrum=spectrum,
            K=kernel(points, points, keep, torch.float64),
            vectors=U[:, :q].contiguous(),
            shrink=1 - values[-1] / values[:q],
            weights=torch.zeros_like(Y, dtype=torch.float64),
            outputs=torch.zeros_like(Y, dtype=torch.float64),
        )

    def iterate(self, state: CGState) -> Iterator[EpochRecord]:
        """One iteration for each record; a residual that meets the tolerance is computed anew."""
        Y, device = state.problem.Y.double(), state.problem.device
        size = len(Y) * state.spectrum.top_eigenvalue  # |K|

        def matmul(W: Tensor) -> Tensor:
            return state.K.matmul(W)

        epoch, start = 0, clock(device)
        while True:
            for R, KR in conjugate_residuals(matmul, state.precondition, Y, state.weights):
                epoch += 1
                state.residual = relative_residual(R, Y)
                state.outputs = Y - R
                drifted = False
                met, stuck = self._ends(Y, R, KR, size)
                rounds = is_rounding(state.weights, size, Y)
                if bool((met | stuck | rounds).all()):  # by what was carried along; now by what is
                    state.outputs = matmul(state.weights)
                    R = Y - state.outputs
                    KR = matmul(state.precondition(R)) if bool(stuck.any()) else KR
                    met, stuck = self._ends(Y, R, KR, size)
                    state.residual = relative_residual(R, Y)
                    state.converged = bool((met | stuck | rounds).all())
                    drifted = not state.converged
                    if state.converged and not bool(met.all()):
                        self._end_in_least_squares(state, R * ~met, size)
                    held = matmul(state.model().weights.double())
                    if state.converged and rounds_off(held, state.outputs, state.problem.Y.dtype):
                        state.warning = state.warning or too_coarse(
                            state.problem.Y.dtype, "f is rounded off"
                        )
                if epoch == MOST_EPOCHS and self.epochs is None and not state.converged:
                    state.warning = unsolved(state.residual)
                yield state.record(epoch, clock(device) - start)
                start = clock(device)
                if drifted:
                    break  # start again from these weights, with a true residual

    def _ends(self, Y: Tensor, R: Tensor, KR: Tensor, size: float) -> tuple[Tensor, Tensor]:
        """Of each output: whether it is met, and whether nothing of its residual is within K's reach."""
        left = R.norm(dim=0)
        return left <= self.tolerance * Y.norm(dim=0), KR.norm(dim=0) <= _OUT_OF_REACH * size * left

    def _end_in_least_squares(self, state: CGState, R: Tensor, size: float) -> None:
        """Take out of the weights what K does not see, which lies along R (0 of outputs that are met)."""
        Y = state.problem.Y.double()
        along = (state.weights * R).sum(0) / R.square().sum(0).clamp_(min=torch.finfo(R.dtype).tiny)
        state.weights.addcmul_(R, along, value=-1)
        state.outputs = state.K.matmul(state.weights)
        left = Y - state.outputs
        reach = state.K.matmul(left).norm(dim=0) / (size * Y.norm(dim=0))
        state.residual = reach.nan_to_num(0).max().item()
        state.converged = True
        if state.residual > SOLVED:
            state.warning = unsolved(state.residual)
            return
        n, distinct = len(Y), len(state.problem.distinct_rows(state.problem.X).first)
        state.warning = unmet(relative_residual(left, Y), n, distinct)
