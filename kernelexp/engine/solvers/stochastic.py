"""What the solvers that take mini-batches share: spectrum, batch and step, and restarts."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size, step_size
from kernelexp.engine.checks import number
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.resource import clock
from kernelexp.engine.solvers.base import DivergenceError, Solver, State
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import Spectrum

# Training has diverged when the loss of some points, all of them or those met last, is this many times the
# largest square among the targets: a step that is right fits one point, and so can lift f everywhere to
# that point's target, however small the others are (an outlier, one positive in thousands).
_GROWTH = 10.0
# Or when, over this many epochs, it has risen each time, to that many times the lowest so far. The share
# of the first loss keeps rounding noise around zero from counting.
_RISES, _NOISE = 3, 1e-6


@dataclass
class StochasticState(State):
    """The part of the state that batch and step come from.

    Attributes:
        spectrum: of k, from the subsample.
        preconditioner: the correction; q = 0 for plain SGD.
        beta: max k(x, x) over the training points.
        batch_size: m.
        relaxation: of the step, see ``batch.step_size``.
        inflation: measured over expected curvature, see ``Preconditioner.curvature_inflation``.
        generator: the source of every draw.
        step_scale: 1, or 1/2 after a divergence.
    """

    spectrum: Spectrum
    preconditioner: Preconditioner
    beta: float
    batch_size: int
    relaxation: float
    inflation: float
    generator: torch.Generator
    step_scale: float = field(default=1.0, init=False)

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

    @abstractmethod
    def restart(self) -> None:
        """Back to f = 0."""

    def derived(self) -> dict[str, Any]:
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
        }


@dataclass(frozen=True)
class StochasticSolver(Solver):
    """Mini-batches of m points at the step that the spectrum allows.

    Attributes:
        batch_size: m; null: chosen by the solver from the spectrum.
        subsample_size: s, points from which the spectrum is estimated; null: chosen by the solver.
    """

    relaxation: ClassVar[float] = 1.0
    batch_size: int | None = None
    subsample_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("batch_size", self.batch_size, 1, whole=True, optional=True)
        number("subsample_size", self.subsample_size, 2, whole=True, optional=True)

    def check_sizes(self, problem: Problem) -> None:
        """Refuse a subsample larger than the data. A batch that is larger is all of them."""
        number(
            "solver.subsample_size",
            self.subsample_size,
            1,
            len(problem.X),
            whole=True,
            optional=True,
        )

    @abstractmethod
    def epoch(self, state: Any, order: Tensor, limit: float) -> bool:
        """One pass over the data in ``order`` (n,); False as soon as a loss exceeds ``limit``."""

    def record(self, state: Any, epoch: int, seconds: float) -> EpochRecord:
        """The record of an epoch."""
        made: EpochRecord = state.record(epoch, seconds)
        return made

    def iterate(self, state: Any) -> Iterator[EpochRecord]:
        """Train, one epoch in random order for each record asked for.

        Raises:
            DivergenceError: when the loss grows a second time, with half the step.
        """
        Y = state.problem.Y
        m, limit = state.batch_size, _GROWTH * Y.square().mean(1).max().item()
        losses = [state.problem.mean_square]  # at the start and after each epoch
        start = clock(Y.device)
        while True:
            order = torch.randperm(len(Y), generator=state.generator).to(Y.device)
            done = self.epoch(state, order, limit)
            if done:
                made = self.record(state, len(losses), clock(Y.device) - start)
                losses.append(made.train_mse)
            if not done or _grows(losses):
                if state.step_scale < 1:
                    raise DivergenceError(
                        f"training diverges, also with half the step ({state.step_size(m):.3g}): "
                        f"set solver.batch_size below {m}, solver.q below "
                        f"{state.preconditioner.q} or dtype=float64"
                    )
                warnings.warn(
                    f"training diverged with step {state.step_size(m):.3g}; "
                    "started again with half of it",
                    RuntimeWarning,
                    stacklevel=2,
                )
                state.restart()
                state.step_scale /= 2
                del losses[1:]
                continue  # the time it took counts with the next epoch
            yield made
            start = clock(Y.device)


def _grows(losses: list[float]) -> bool:
    """Whether the losses after each epoch are those of a training that diverges slowly."""
    last = losses[-1 - _RISES :]
    rises = len(last) > _RISES and all(a < b for a, b in itertools.pairwise(last))
    high = losses[-1] > _GROWTH * min(losses) + _NOISE * losses[0]
    return math.isnan(losses[-1]) or (rises and high)
