"""Mini-batch SGD in the RKHS, plain or preconditioned, with its predictions carried along.

One step on a batch b of m points, K_G(X_b, .) = K(X_b, .) - Phi_b D Phi(.)^T (no Phi for plain SGD):

    g = f(X_b) - Y_b                                 (m, c)
    alpha_b -= eta / m g                             on the batch
    alpha_s += eta / m V D Phi_b^T g                 on the subsample, Phi_b = K(X_b, X_s) V

These are the iterates of Ma, Belkin 2019, algorithm 1. What differs is how f(X_b) is had. Published
code computes K(X_b, X) alpha, so each step sees every center and its batch must fill the device. Here
F = f(X) is a state: after a block B of many batches

    F -= K(X, X_B) delta_B - Phi h,      h = sum of D Phi_b^T (eta / m) g over the block

and within the block the steps need K(X_B, X_B) alone. The work is the same, n d operations a sample,
but blocks have the size the device likes and batches the size the spectrum likes; and F gives train
error, loss and RKHS norm, tr(alpha^T F), exactly and for nothing after every block. Rows of K that
there is room for are kept from the first epoch on; the next ones then cost a pass over memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import choose_q
from kernelexp.engine.checks import number
from kernelexp.engine.model import KernelModel
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.resource import with_cache
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.sgd_plan import SGDPlan, plan_sgd
from kernelexp.engine.solvers.stochastic import StochasticSolver, StochasticState
from kernelexp.engine.spectrum import Spectrum, nystrom_spectrum


@dataclass
class SGDState(StochasticState):
    """Everything the iteration carries.

    Attributes:
        weights: alpha, (n, c), without ``pending``.
        pending: (q, c), V times it is still to be added to the weights of the subsample.
        predictions: F = f(X), (n, c), stored by columns.
        rows: K(X, X), kept as far as there is room.
    """

    plan: SGDPlan
    rows: KernelOperator
    weights: Tensor
    pending: Tensor
    predictions: Tensor

    def training_outputs(self) -> Tensor:
        return self.predictions

    def model(self) -> KernelModel:
        """The kernel machine as it stands."""
        self._settle()
        return KernelModel(self.problem.kernel, self.problem.X, self.weights.clone())

    def _settle(self) -> None:
        """Add to the weights what is pending."""
        P = self.preconditioner
        if self.pending.any():
            self.weights.index_add_(0, P.rows, P.vectors @ self.pending)
            self.pending.zero_()

    def refresh(self) -> None:
        self._settle()
        self.predictions.copy_(self.rows.matmul(self.weights))

    def restart(self) -> None:
        for tensor in (self.weights, self.pending, self.predictions):
            tensor.zero_()

    def derived(self) -> dict[str, Any]:
        sizes = {
            "block_size": self.plan.block_size,
            "max_batch_size": self.plan.max_batch_size,
            "rows_kept": self.rows.kept_rows,
        }
        return {**super().derived(), **sizes}


@dataclass(frozen=True)
class SGD(StochasticSolver):
    """Plain mini-batch SGD at the critical batch size m*(k).

    Batch m*; s = 4,000, or 12,000 where n > 100,000, or what memory allows.
    """

    name: ClassVar[str] = "sgd"
    corrects_all: ClassVar[bool] = False

    def fixed_q(self, problem: Problem) -> int | None:
        """The q asked for, or None where it is to be chosen."""
        return 0

    def default_batch(self, state: SGDState) -> int:
        """The batch where none is asked for."""
        return round(state.m_star)

    def make_preconditioner(
        self, problem: Problem, spectrum: Spectrum, q: int | None, plan: SGDPlan
    ) -> Preconditioner:
        """From the spectrum of the subsample."""
        if q is None:
            q = choose_q(spectrum, plan.max_batch_size)
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        return Preconditioner.from_spectrum(kernel, problem.points, spectrum, q)

    def setup(self, problem: Problem) -> SGDState:
        """Plan the memory, find the spectrum, choose q, batch and step."""
        self.check_sizes(problem)
        X, Y = problem.X, problem.Y
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        q = self.fixed_q(problem)
        generator = problem.generator()
        plan = plan_sgd(problem, self.subsample_size, q, self.batch_size, self.corrects_all)
        plan, keep = with_cache(
            plan, problem.limits, len(X), X.element_size() * len(X), self.max_epochs
        )
        points = problem.points
        rank = min(plan.max_q + 1, plan.subsample_size)
        number("solver.q", q, 0, plan.subsample_size - 1, whole=True, optional=True)
        spectrum = nystrom_spectrum(kernel, points, plan.subsample_size, generator, rank)
        preconditioner = self.make_preconditioner(problem, spectrum, q, plan)
        state = SGDState(
            solver=self,
            problem=problem,
            plan=plan,
            rows=kernel(points, points, keep),
            spectrum=spectrum,
            preconditioner=preconditioner,
            beta=kernel.diag(X).max().item(),
            batch_size=0,
            relaxation=self.relaxation,
            inflation=1.0,
            generator=generator,
            weights=torch.zeros_like(Y),
            pending=Y.new_zeros(preconditioner.q, Y.shape[1]),
            predictions=Y.new_zeros(Y.shape[1], len(Y)).mT,
        )
        m = min(self.batch_size or self.default_batch(state), len(X))
        state.batch_size = max(1, min(m, plan.max_batch_size))
        if self.batch_size is not None and state.batch_size < m:
            warnings.warn(
                f"solver.batch_size={self.batch_size} exceeds resource.max_batch_size: "
                f"{state.batch_size} is used",
                RuntimeWarning,
                stacklevel=2,
            )
        state.inflation = preconditioner.curvature_inflation(
            kernel, points, state.batch_size, generator
        )
        return state

    def epoch(self, state: SGDState, order: Tensor, limit: float) -> bool:
        Y = state.problem.Y.mT.contiguous().mT  # by columns, as the predictions are
        batches = order.tensor_split(math.ceil(len(order) / state.batch_size))
        per_block = max(1, state.plan.block_size // state.batch_size)
        for first in range(0, len(batches), per_block):
            self._block(state, batches[first : first + per_block])
            loss = (state.predictions - Y).square_().mean().item()
            if not loss <= limit:  # also catches nan
                return False
        return True

    def _block(self, state: SGDState, batches: Sequence[Tensor]) -> None:
        """Several steps, then one update of all predictions."""
        problem, P = state.problem, state.preconditioner
        rows = torch.cat(list(batches))  # (B,)
        residual = state.predictions[rows] - problem.Y[rows]  # (B, c)
        Phi_B = P.features[rows]  # (B, q)
        X_B = problem.points[rows]
        # Computed, which is faster than to pick it from the rows that are kept.
        kernel = BlockedKernel.on(problem.kernel, problem.device)
        K_BB = kernel(X_B, X_B).dense() if len(batches) > 1 else None
        delta = torch.empty_like(residual)
        h = torch.zeros_like(state.pending)
        start = 0
        for batch in batches:
            m = len(batch)
            stop = start + m
            g = residual[start:stop] * (state.step_size(m) / m)
            delta[start:stop] = -g
            step = P.coefficients(Phi_B[start:stop], g)  # (q, c)
            h += step
            if K_BB is not None and stop < len(rows):
                residual[stop:].addmm_(K_BB[stop:, start:stop], g, alpha=-1)
                residual[stop:].addmm_(Phi_B[stop:], step)
            start = stop
        state.weights[rows] += delta
        state.pending += h
        state.rows.add_transposed_matmul(rows, delta, out=state.predictions)
        state.predictions.addmm_(P.features, h)
