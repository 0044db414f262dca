"""Preconditioned conjugate gradients on K alpha = Y: interpolation where K cannot be factored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.checks import number
from kernelexp.engine.linalg import conjugate_gradients, relative_residual
from kernelexp.engine.model import KernelModel
from kernelexp.engine.products import KernelRows
from kernelexp.engine.resource import clock, plan_memory, tile_numbers, with_cache
from kernelexp.engine.solvers.base import MOST_EPOCHS, Problem, Solver, State
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import Spectrum, extend, nystrom_spectrum

_SUBSAMPLE = 2000


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
        residual: max over outputs of |y - K alpha| / |y|.
    """

    spectrum: Spectrum
    K: KernelRows
    vectors: Tensor
    shrink: Tensor
    weights: Tensor
    outputs: Tensor
    residual: float = field(default=1.0, init=False)

    def training_outputs(self) -> Tensor:
        return self.outputs.to(self.problem.Y.dtype)

    def center_outputs(self) -> Tensor:
        return self.outputs

    def model(self) -> KernelModel:
        return KernelModel(
            self.problem.kernel, self.problem.X, self.weights.to(self.problem.Y.dtype)
        )

    def derived(self) -> dict[str, Any]:
        beta = self.problem.kernel.diag(self.problem.X).max().item()
        return {
            "m_star": critical_batch_size(beta, self.spectrum.top_eigenvalue),
            "q": self.vectors.shape[1],
            "top_eigenvalue": self.spectrum.top_eigenvalue,
            "subsample_size": self.spectrum.size,
            "rows_kept": len(self.K.kept),
        }

    def residuals(self) -> dict[str, float]:
        return {"relative_residual": self.residual}

    def precondition(self, R: Tensor) -> Tensor:
        """M^-1 R with M^-1 = I - U (1 - lambda_q / Lambda) U^T: (n, c) -> (n, c)."""
        return R - self.vectors @ (self.shrink[:, None] * (self.vectors.mT @ R))


@dataclass(frozen=True)
class CG(Solver):
    """Conjugate gradients in float64, the top q directions of K taken down to the q-th.

    Solves K alpha = Y without a ridge. The preconditioner is that of EigenPro 1 applied to K alpha = Y:
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
        kernel, Y = problem.kernel, problem.Y
        n, c = Y.shape
        number("solver.subsample_size", self.subsample_size, 2, n, whole=True, optional=True)
        s = self.subsample_size or min(n, _SUBSAMPLE)
        q = max(1, s // 2) if self.q is None else self.q
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
            K=KernelRows(kernel, points, points, keep, torch.float64),
            vectors=U[:, :q].contiguous(),
            shrink=1 - values[-1] / values[:q],
            weights=torch.zeros_like(Y, dtype=torch.float64),
            outputs=torch.zeros_like(Y, dtype=torch.float64),
        )

    def iterate(self, state: CGState) -> Iterator[EpochRecord]:
        """One iteration for each record; a residual that meets the tolerance is computed anew."""
        Y, device = state.problem.Y.double(), state.problem.device

        def matmul(W: Tensor) -> Tensor:
            return state.K.matmul(W)

        epoch, start = 0, clock(device)
        while True:
            for R, _ in conjugate_gradients(matmul, state.precondition, Y, state.weights):
                epoch += 1
                state.residual = relative_residual(R, Y)
                state.outputs = Y - R
                drifted = False
                if state.residual <= self.tolerance:
                    state.outputs = matmul(state.weights)
                    state.residual = relative_residual(Y - state.outputs, Y)
                    state.converged = state.residual <= self.tolerance
                    drifted = not state.converged
                yield state.record(epoch, clock(device) - start)
                start = clock(device)
                if drifted:
                    break  # start again from these weights, with a true residual
