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
error, loss and RKHS norm, tr(alpha^T F), exactly and for nothing after every block.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import choose_q, critical_batch_size, step_size
from kernelexp.engine.checks import number
from kernelexp.engine.model import KernelModel, predicted_labels, rkhs_norms_from_predictions
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.products import kernel_matmul, kernel_matrix
from kernelexp.engine.resource import MemoryPlan, clock, plan_memory
from kernelexp.engine.solvers.base import DivergenceError, EpochRecord, Problem, Solver
from kernelexp.engine.spectrum import Spectrum, nystrom_spectrum

# Training has diverged when the loss is this many times the lowest so far: plain SGD at m* is noisy and
# can reach twice. The share of the first loss keeps rounding noise around zero from counting.
_GROWTH, _NOISE = 10.0, 1e-6


@dataclass
class SGDState:
    """Everything the iteration carries.

    Attributes:
        problem: what is learned.
        plan: what is held in memory.
        spectrum: of k, from the subsample.
        preconditioner: the correction; q = 0 for plain SGD.
        beta: max k(x, x) over the training points.
        batch_size: m.
        relaxation: of the step, see ``batch.step_size``.
        inflation: measured over expected curvature, see ``Preconditioner.curvature_inflation``.
        generator: the source of every draw.
        weights: alpha, (n, c), without ``pending``.
        pending: (q, c), V times it is still to be added to the weights of the subsample.
        predictions: F = f(X), (n, c).
        setup_seconds: time of ``prepare``.
        step_scale: 1, or 1/2 after a divergence.
        stopped_by: what ended the run.
    """

    problem: Problem
    plan: MemoryPlan
    spectrum: Spectrum
    preconditioner: Preconditioner
    beta: float
    batch_size: int
    relaxation: float
    inflation: float
    generator: torch.Generator
    weights: Tensor
    pending: Tensor
    predictions: Tensor
    setup_seconds: float = 0.0
    step_scale: float = 1.0
    stopped_by: str | None = None

    @property
    def m_star(self) -> float:
        """m*(k) = beta / lambda_1."""
        return critical_batch_size(self.beta, self.spectrum.top_eigenvalue)

    @property
    def m_star_adapted(self) -> float:
        """m*(k_G) = beta(k_G) / lambda_{q+1}."""
        return critical_batch_size(self.preconditioner.beta, self.preconditioner.top_eigenvalue)

    def step_size(self, m: int) -> float:
        """Eta for a batch of m points."""
        P = self.preconditioner
        return self.step_scale * step_size(
            m, P.beta, P.top_eigenvalue, self.relaxation, self.inflation
        )

    def train_mse(self) -> float:
        """Mean (F - Y)^2."""
        return (self.predictions - self.problem.Y).square_().mean().item()

    def train_error(self) -> float | None:
        """Share of wrong training labels; None for regression."""
        if self.problem.labels is None:
            return None
        wrong = predicted_labels(self.predictions) != self.problem.labels
        return wrong.double().mean().item()

    def rkhs_norms(self) -> Tensor:
        """||f_c|| of each output, (c,), from the predictions at hand."""
        return rkhs_norms_from_predictions(self.model().weights, self.predictions)

    def model(self) -> KernelModel:
        """The kernel machine as it stands; shares the state's tensors."""
        P = self.preconditioner
        if self.pending.any():
            self.weights.index_add_(0, P.rows, P.vectors @ self.pending)
            self.pending.zero_()
        return KernelModel(self.problem.kernel, self.problem.X, self.weights)

    def restart(self) -> None:
        """Back to f = 0, with half the step."""
        for tensor in (self.weights, self.pending, self.predictions):
            tensor.zero_()
        self.step_scale /= 2

    def derived(self) -> dict[str, Any]:
        """What set-up chose or measured, by name."""
        P = self.preconditioner
        return {
            "m_star": self.m_star,
            "m_star_adapted": self.m_star_adapted,
            "batch_size": self.batch_size,
            "q": P.q,
            "top_eigenvalue": self.spectrum.top_eigenvalue,
            "top_eigenvalue_adapted": P.top_eigenvalue,
            "beta": self.beta,
            "beta_adapted": P.beta,
            "step_size": self.step_size(self.batch_size),
            "curvature_inflation": self.inflation,
            "spectrum_residual": self.spectrum.residual,
            "subsample_size": self.spectrum.size,
            "block_size": self.plan.block_size,
            "max_batch_size": self.plan.max_batch_size,
        }


@dataclass(frozen=True)
class SGD(Solver):
    """Plain mini-batch SGD at the critical batch size m*(k).

    Attributes:
        batch_size: m; null: m* (EigenPro 2: m*(k_G) / 8, see ``default_batch_size``).
        subsample_size: s, points from which the spectrum is estimated; null: 4,000, or 12,000 where
            n > 100,000, or what memory allows.
    """

    name: ClassVar[str] = "sgd"
    relaxation: ClassVar[float] = 1.0
    batch_size: int | None = None
    subsample_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("batch_size", self.batch_size, 1, whole=True, optional=True)
        number("subsample_size", self.subsample_size, 2, whole=True, optional=True)

    def _fixed_q(self) -> int | None:
        """The q asked for, or None where it is to be chosen."""
        return 0

    def _choose_batch_size(self, state: SGDState) -> int:
        return round(state.m_star)

    def prepare(self, problem: Problem) -> SGDState:
        """Plan the memory, find the spectrum, choose q, batch and step.

        Raises:
            ValueError: where a size exceeds n or memory, or the kernel is not positive semidefinite.
        """
        X, Y = problem.X, problem.Y
        start = clock(X.device)
        n = len(X)
        for key in ("batch_size", "subsample_size"):
            number(f"solver.{key}", getattr(self, key), 1, n, whole=True, optional=True)
        q = self._fixed_q()
        generator = torch.Generator().manual_seed(problem.seed)
        plan = plan_memory(
            X,
            Y.shape[1],
            problem.limits,
            problem.block_size,
            self.subsample_size,
            q,
            self.batch_size,
        )
        rank = min(plan.max_q + 1, plan.subsample_size)
        number("solver.q", q, 0, plan.subsample_size - 1, whole=True, optional=True)
        spectrum = nystrom_spectrum(problem.kernel, X, plan.subsample_size, generator, rank)
        if q is None:
            q = choose_q(spectrum, plan.max_batch_size)
        preconditioner = Preconditioner.from_spectrum(problem.kernel, X, spectrum, q)
        state = SGDState(
            problem=problem,
            plan=plan,
            spectrum=spectrum,
            preconditioner=preconditioner,
            beta=problem.kernel.diag(X).max().item(),
            batch_size=0,
            relaxation=self.relaxation,
            inflation=1.0,
            generator=generator,
            weights=torch.zeros_like(Y),
            pending=Y.new_zeros(q, Y.shape[1]),
            predictions=torch.zeros_like(Y),
        )
        m = self.batch_size or self._choose_batch_size(state)
        state.batch_size = max(1, min(m, n, plan.max_batch_size))
        if self.batch_size not in (None, state.batch_size):
            warnings.warn(
                f"solver.batch_size={self.batch_size} exceeds resource.max_batch_size: "
                f"{state.batch_size} is used",
                RuntimeWarning,
                stacklevel=2,
            )
        state.inflation = preconditioner.curvature_inflation(
            problem.kernel, X, state.batch_size, generator
        )
        state.setup_seconds = clock(X.device) - start
        return state

    def iterate(self, state: SGDState) -> Iterator[EpochRecord]:
        """Train, one epoch for each record asked for.

        Raises:
            DivergenceError: when the loss grows a second time, with half the step.
        """
        epoch, device = 0, state.problem.X.device
        first = lowest = state.train_mse()
        start = clock(device)
        while True:
            if not self._epoch(state, limit=_GROWTH * lowest + _NOISE * first):
                if state.step_scale < 1:
                    raise DivergenceError(
                        f"training diverges, also with half the step ({state.step_size(state.batch_size):.3g}): "
                        f"set solver.batch_size below {state.batch_size}, solver.q below "
                        f"{state.preconditioner.q} or dtype=float64"
                    )
                warnings.warn(
                    f"training diverged with step {state.step_size(state.batch_size):.3g}; "
                    "started again with half of it",
                    RuntimeWarning,
                    stacklevel=2,
                )
                state.restart()
                lowest = first
                continue  # the time it took counts with the next epoch
            epoch += 1
            norm = state.rkhs_norms().square().sum().sqrt().item()
            mse, error = state.train_mse(), state.train_error()
            lowest = min(lowest, mse)
            yield EpochRecord(epoch, mse, error, norm, clock(device) - start)
            start = clock(device)

    def _epoch(self, state: SGDState, limit: float) -> bool:
        """One pass over the data in random order; False as soon as the loss exceeds ``limit``."""
        X = state.problem.X
        order = torch.randperm(len(X), generator=state.generator).to(X.device)
        batches = order.tensor_split(math.ceil(len(X) / state.batch_size))
        per_block = max(1, state.plan.block_size // state.batch_size)
        for first in range(0, len(batches), per_block):
            self._block(state, batches[first : first + per_block])
            if not state.train_mse() <= limit:  # also catches nan
                return False
        return True

    def _block(self, state: SGDState, batches: Sequence[Tensor]) -> None:
        """Several steps, then one update of all predictions."""
        problem, P = state.problem, state.preconditioner
        rows = torch.cat(list(batches))  # (B,)
        X_B = problem.X[rows]  # (B, d)
        residual = state.predictions[rows] - problem.Y[rows]  # (B, c)
        Phi_B = P.features[rows]  # (B, q)
        K_BB = kernel_matrix(problem.kernel, X_B, X_B) if len(batches) > 1 else None
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
        kernel_matmul(problem.kernel, problem.X, X_B, delta, out=state.predictions)
        state.predictions.addmm_(P.features, h)
