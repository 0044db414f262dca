"""What the solvers that take mini-batches share: batch and step from the spectrum, rounds, restarts."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size, step_size
from kernelexp.engine.checks import number
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Sizes
from kernelexp.engine.points import Points
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.solvers.base import DivergenceError, Solver
from kernelexp.engine.solvers.state import Derived, Iterate, System, draw_permutation
from kernelexp.engine.solvers.stopping import EpochRecord
from kernelexp.engine.spectrum import Spectrum

# Training has diverged when the loss of some points, all of them or those met last, is this many times the
# largest square among the targets: a step that is right fits one point, and so can lift f everywhere to
# that point's target, however small the others are (an outlier, one positive in thousands).
_GROWTH = 10.0
# Or when, over this many epochs, it has risen each time, to that many times the lowest so far. The share
# of the first loss keeps rounding noise around zero from counting.
_RISES, _NOISE = 3, 1e-6
# The largest k(x, x) is that of few points where it is this many times the mean.
_FAR = 100.0


@dataclass(frozen=True)
class MiniBatchSystem(System):
    """The part of the system that batch and step come from.

    Attributes:
        points: X as kernels take it.
        spectrum: of k, from the subsample.
        preconditioner: the correction; q = 0 for plain SGD.
        beta: max k(x, x) over the training points.
        batch_size: m.
        relaxation: of the step, see ``batch.step_size``.
        inflation: measured over expected curvature, see ``Preconditioner.curvature_inflation``.
        generator: the state of the source of draws when set-up was done.
    """

    points: Points
    spectrum: Spectrum
    preconditioner: Preconditioner
    beta: float
    batch_size: int
    relaxation: float
    inflation: float
    generator: Tensor

    @property
    def m_star(self) -> float:
        """m*(k) = beta / lambda_1; with a ridge of k + n ridge delta."""
        shift = self.preconditioner.shift
        top = self.spectrum.top_eigenvalue + shift / len(self.problem.X)
        return critical_batch_size(self.beta + shift, top)

    @property
    def m_star_adapted(self) -> float:
        """m*(k_G) = beta(k_G) / lambda_{q+1}."""
        return critical_batch_size(self.preconditioner.beta, self.preconditioner.top_eigenvalue)

    @cached_property
    def highest_loss(self) -> float:
        """Beyond it training has diverged."""
        return _GROWTH * self.targets.square().mean(1).max().item()

    def step_size(self, m: int) -> float:
        """Eta for a batch of m points."""
        P = self.preconditioner
        return step_size(m, P.beta, P.top_eigenvalue, self.relaxation, self.inflation)

    def derived(self) -> Derived:
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


@dataclass(kw_only=True)
class MiniBatchIterate(Iterate):
    """The part of what is carried that says where in which epoch training stands.

    Attributes:
        generator: the state of the source of draws.
        order: the points in the order of this epoch, (n,), on the host.
        position: batches of it that are done.
        step_scale: 1, or 1/2 after a divergence.
        losses: at the start and after each epoch, since the last restart.
    """

    generator: Tensor
    order: Tensor
    position: int = 0
    step_scale: float = 1.0
    losses: list[float] = field(default_factory=list)


MS = TypeVar("MS", bound=MiniBatchSystem)
MI = TypeVar("MI", bound=MiniBatchIterate)


@dataclass(frozen=True)
class MiniBatchSolver(Solver[MS, MI], Generic[MS, MI]):
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

    def check_subsample(self, sizes: Sizes) -> None:
        """Refuse a subsample larger than the data. A batch that is larger is all of them."""
        name, asked = "solver.subsample_size", self.subsample_size
        number(name, asked, 1, sizes.n, whole=True, optional=True)

    @abstractmethod
    def batches_a_round(self, system: MS) -> int:
        """How many batches are taken together."""

    def begin_epoch(self, iterate: MI) -> None:
        """Before the first round of an epoch: here nothing is to be done."""

    @abstractmethod
    def round(self, system: MS, iterate: MI, batches: Sequence[Tensor]) -> float:
        """Learn from some batches of row numbers, on the host; the loss, of all points or of those met."""

    @abstractmethod
    def restart(self, system: MS, iterate: MI) -> None:
        """Back to f = 0."""

    def end_epoch(self, system: MS, iterate: MI) -> EpochRecord:
        """The record of the epoch that is done."""
        return self.record(system, iterate)

    def advance(self, system: MS, iterate: MI) -> EpochRecord | None:
        """Some batches of an epoch, whose order is drawn at its start."""
        n = len(system.targets)
        # Of the host alone: rounds end with a loss, for which it waits until the device is done.
        start = time.perf_counter()
        if not iterate.losses:
            iterate.losses = [system.mean_square]
        if not iterate.position:
            iterate.order, iterate.generator = draw_permutation(iterate.generator, n)
            self.begin_epoch(iterate)
        count = math.ceil(n / system.batch_size)
        first = iterate.position
        iterate.position = min(count, first + self.batches_a_round(system))
        batches = _batches(iterate.order, count, first, iterate.position)
        loss = self.round(system, iterate, batches)
        iterate.seconds += time.perf_counter() - start
        if not loss <= system.highest_loss:  # also catches nan
            self._start_again(system, iterate)
        elif iterate.position == count:
            iterate.position = 0
            return self._end(system, iterate)
        return None

    def _end(self, system: MS, iterate: MI) -> EpochRecord | None:
        seconds = iterate.seconds
        record = self.end_epoch(system, iterate)
        iterate.losses = [*iterate.losses, record.train_mse]
        if not _grows(iterate.losses):
            return record
        iterate.seconds = seconds  # the time it took counts with the next epoch
        self._start_again(system, iterate)
        return None

    def _start_again(self, system: MS, iterate: MI) -> None:
        m = system.batch_size
        step = iterate.step_scale * system.step_size(m)
        if iterate.step_scale < 1:
            q, coarse = system.preconditioner.q, system.targets.dtype != torch.float64
            ways = [f"solver.batch_size below {m}"] if m > 1 else []
            ways += [f"solver.q below {q}"] if q else []
            ways += ["dtype=float64"] if coarse else []
            raise DivergenceError(
                f"training diverges, also with half the step ({step:.3g}): set "
                + (" or ".join(ways) or "another solver, as exact or cg")
            )
        warnings.warn(
            f"training diverged with step {step:.3g}; started again with half of it",
            RuntimeWarning,
            stacklevel=2,
        )
        self.restart(system, iterate)
        iterate.step_scale /= 2
        iterate.epoch = iterate.position = 0
        iterate.losses = iterate.losses[:1]


def largest_diagonal(kernel: BlockedKernel, X: Tensor, P: Preconditioner, ranks: Ranks) -> float:
    """Max k(x, x) over the training points X (n, d); told where steps, which follow that of k_G, follow few points."""
    diagonal = kernel.diag(ranks.own(X))[:, None]
    largest = ranks.max(diagonal.max().item())
    mean, followed = ranks.mean(diagonal, len(X)), P.beta - P.shift
    if followed > _FAR * mean:
        warnings.warn(
            f"steps follow the largest k(x, x), {followed:.2g}, which is {followed / mean:,.0f} times the mean: training of "
            "most points takes that many times the epochs; scale columns that have heavy tails, or take solver=exact",
            RuntimeWarning,
            stacklevel=3,
        )
    return largest


def limited(m: int, asked: int | None, most: int) -> int:
    """The batch size m, or ``most`` where that is less, which is told where m was asked for."""
    used = max(1, min(m, most))
    if asked is not None and used < m:
        warnings.warn(
            f"solver.batch_size={asked} exceeds resource.max_batch_size: {used} is used",
            RuntimeWarning,
            stacklevel=3,
        )
    return used


def _batches(order: Tensor, count: int, first: int, last: int) -> list[Tensor]:
    """Batches ``first`` to ``last`` of ``count`` that ``order`` falls into, whose sizes differ by at most 1."""
    size, larger = divmod(len(order), count)
    ends = [size * i + min(i, larger) for i in range(first, last + 1)]
    return [order[a:b] for a, b in itertools.pairwise(ends)]


def _grows(losses: list[float]) -> bool:
    """Whether the losses after each epoch are those of a training that diverges slowly."""
    last = losses[-1 - _RISES :]
    rises = len(last) > _RISES and all(a < b for a, b in itertools.pairwise(last))
    high = losses[-1] > _GROWTH * min(losses) + _NOISE * losses[0]
    return math.isnan(losses[-1]) or (rises and high)
