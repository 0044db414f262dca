"""What every solver is: hyper-parameters, an expensive ``prepare``, an iterator of epochs.

    state = solver.prepare(problem)
    for record in solver.run(state):
        ...                         # log, evaluate, checkpoint: the caller's affair
    model = state.model()

A solver never prints, never sees test data and draws only from a generator made from the seed.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine import memory
from kernelexp.engine.centers import KINDS, choose_centers
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.model import KernelModel, predicted_labels
from kernelexp.engine.norms import RKHSNorm
from kernelexp.engine.resource import GB, MemoryPlan, clock, memory_limit
from kernelexp.engine.singular import SOLVED, DistinctRows, SingularMatrixWarning
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord, StopRule

# Points on which f(X) as carried along is held against the model, and how many times the mean square of
# the difference a training error must be to be believed.
_DRIFT_POINTS, _TRUSTED = 256, 10.0
# With a stop rule and no number of epochs given: the end of patience with a rule that is never met.
MOST_EPOCHS = 1000
# What is planned with after memory ran out.
_SMALLER = 0.75


class DivergenceError(RuntimeError):
    """Training grew instead of shrinking, and a smaller step did not help."""


@dataclass
class State(ABC):
    """What ``prepare`` returns: everything the iteration carries, there to be looked at.

    Attributes:
        solver: the one that made it and goes on with it.
        problem: what is learned.
        plan: what is held in memory.
        setup_seconds: time of ``prepare``.
        reason: why this solver, where it was picked (``solvers.auto``).
        converged: whether the solver has reached the tolerance it was given.
        stopped_by: what ended the run: ``epochs``, ``tolerance``, ``least_squares`` (all that a singular
            system allows) or the name of a stop rule.
        smaller_plan: whether memory ran out and a smaller plan was made.
        warning: the sentence for a system that has no solution, or was not solved.
    """

    solver: Solver
    problem: Problem
    plan: MemoryPlan
    setup_seconds: float = field(default=0.0, init=False)
    reason: str | None = field(default=None, init=False)
    converged: bool = field(default=False, init=False)
    stopped_by: str | None = field(default=None, init=False)
    smaller_plan: bool = field(default=False, init=False)
    warning: str | None = field(default=None, init=False)

    @abstractmethod
    def model(self) -> KernelModel:
        """The kernel machine as it stands: a value, which later epochs do not change."""

    @abstractmethod
    def training_outputs(self) -> Tensor:
        """f(X) on the training points, (n, c); at hand, or computed."""

    def center_outputs(self) -> Tensor:
        """f(Z) at the model's centers, (p, c), as carried along; here the training points'."""
        return self.training_outputs()

    def derived(self) -> dict[str, Any]:
        """The quantities that set-up chose or measured, by name."""
        return {}

    def residuals(self) -> dict[str, float]:
        """What is left undone at the end, by name; empty where the training error says it."""
        return {}

    def rkhs_norm(self) -> RKHSNorm:
        """The norm of the model as it stands, with a bound on its error."""
        norm = self.model().rkhs_norm(self.center_outputs())
        left = self.residuals().get("relative_residual", 0.0)
        return replace(norm, lower_bound=left > SOLVED)

    def record(
        self,
        epoch: int,
        seconds: float,
        train_mse: float | None = None,
        train_error: float | None = None,
    ) -> EpochRecord:
        """The record of an epoch: of training errors given, else of f(X) as it is."""
        if train_mse is None:
            train_mse, Y = self._mse(), self.problem.Y
            # May it be what f(X) as carried along has rounded off? It takes some time to see.
            small = math.sqrt(torch.finfo(Y.dtype).eps) * self.problem.mean_square
            if train_mse < small and train_mse < _TRUSTED * self._drift():
                self.refresh()
                train_mse = self._mse()
            train_error = self._error_of(self.training_outputs())
        norm = (self.model().weights.double() * self.center_outputs().double()).sum()
        return EpochRecord(
            epoch, train_mse, train_error, norm.clamp_(min=0).sqrt_().item(), seconds
        )

    def refresh(self) -> None:  # noqa: B027
        """Compute f(X) anew from the weights, where it is carried along: here it is not."""

    def _mse(self) -> float:
        return (self.training_outputs() - self.problem.Y).square_().mean().item()

    def _drift(self) -> float:
        """Mean square of f(X) as carried along minus the model's, on up to 256 points drawn by the seed."""
        n = len(self.problem.X)
        rows = torch.randperm(n, generator=self.problem.generator())[:_DRIFT_POINTS]
        X = self.problem.X[rows.to(self.problem.X.device)]
        carried = self.training_outputs()[rows.to(self.problem.device)]
        return (self.model().predict(X) - carried).square_().mean().item()

    def _error_of(self, outputs: Tensor) -> float | None:
        """Share of wrong training labels of outputs (n, c); None for regression."""
        if self.problem.labels is None:
            return None
        return (predicted_labels(outputs) != self.problem.labels).double().mean().item()


@dataclass(frozen=True)
class Solver(ABC):
    """Hyper-parameters of a solver; null means chosen from the resource and the spectrum.

    Attributes:
        epochs: passes over the data; null: the solver's default, or up to 1,000 with a stop rule.
        stop: when to stop earlier.
    """

    name: ClassVar[str]
    default_epochs: ClassVar[int] = 10
    epochs: int | None = None
    stop: StopRule = field(default_factory=StopRule)

    def __post_init__(self) -> None:
        number("epochs", self.epochs, 1, whole=True, optional=True)

    @property
    def max_epochs(self) -> int:
        """The most epochs a run takes."""
        if self.epochs is not None:
            return self.epochs
        return self.default_epochs if self.stop == StopRule() else MOST_EPOCHS

    @abstractmethod
    def setup(self, problem: Problem) -> State:
        """What ``prepare`` does, untimed."""

    @abstractmethod
    def iterate(self, state: Any) -> Iterator[EpochRecord]:
        """Train, one epoch for each record asked for."""

    def prepare(self, problem: Problem) -> State:
        """The expensive set-up, once.

        Where the memory that was planned is not there after all, it is made again with three
        quarters of it, once, with a warning; ``state.smaller_plan`` says so.

        Raises:
            ValueError: where a size exceeds the data or the memory, or the kernel is not one.
        """
        start = clock(problem.device)
        _ = problem.points  # what they take is held before anything is planned
        try:
            state = self.setup(problem)
        except RuntimeError as error:
            if not memory.is_exhausted(error):
                raise
            state = None
        if state is None:  # outside of the handler, whose traceback would keep what was allocated
            memory.release(problem.device)
            _, limit = memory_limit(problem.device, problem.limits)
            smaller = replace(problem.limits, memory_gb=_SMALLER * limit / GB)
            warnings.warn(
                f"out of memory; started again with resource.memory_gb={smaller.memory_gb:.2f}",
                RuntimeWarning,
                stacklevel=2,
            )
            state = self.setup(replace(problem, limits=smaller))
            state.smaller_plan = True
        state.setup_seconds = clock(problem.device) - start
        return state

    def run(self, state: State) -> Iterator[EpochRecord]:
        """Train until the last epoch, a tolerance or a stop rule, named in ``state.stopped_by``.

        After a divergence training starts again, and so do the epochs of its records. What a system left
        undone is said in ``state.warning``, and once as a ``SingularMatrixWarning``.
        """
        solver = state.solver
        records: list[EpochRecord] = []
        seconds = 0.0
        for record in solver.iterate(state):
            seconds += record.seconds
            records = [*records[: record.epoch - 1], record]
            if state.converged:
                state.stopped_by = "least_squares" if state.warning else "tolerance"
            else:
                state.stopped_by = solver.stop.reason(records, seconds)
            if state.stopped_by is None and record.epoch >= solver.max_epochs:
                state.stopped_by = "epochs"
            if state.stopped_by is not None and state.warning is not None:
                warnings.warn(state.warning, SingularMatrixWarning, stacklevel=2)
            yield record
            if state.stopped_by is not None:
                return

    def fit(self, problem: Problem) -> KernelModel:
        """``prepare`` and ``run`` in one call, for use as a library."""
        state = self.prepare(problem)
        for _ in self.run(state):
            pass
        return state.model()


@dataclass(frozen=True)
class RestrictedSolver(Solver):
    """A solver whose model has p centers, p <= n.

    Attributes:
        centers: ``all`` training points, a ``random`` subset, or the means of ``kmeans``; null:
            ``random`` where n_centers is given, else the solver's default.
        n_centers: p; null: all, or max(1,000, n / 10).
    """

    default_centers: ClassVar[str] = "random"
    centers: str | None = None
    n_centers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("n_centers", self.n_centers, 1, whole=True, optional=True)
        if self.centers is not None:
            one_of("centers", self.centers, KINDS)
        if self.centers == "all" and self.n_centers is not None:
            raise refuse("n_centers", self.n_centers, "left out with centers=all")

    def default_n_centers(self, n: int) -> int:
        """P where none is given."""
        return min(n, max(1000, n // 10))

    def choose_centers(
        self, problem: Problem, generator: torch.Generator
    ) -> tuple[Tensor, DistinctRows | None]:
        """Z (p, d), no two alike; and how the training points are the centers, where all of them are."""
        X, n = problem.X, len(problem.X)
        number("solver.n_centers", self.n_centers, 1, n, whole=True, optional=True)
        default = self.default_centers if self.n_centers is None else "random"
        p = self.n_centers or self.default_n_centers(n)
        Z = choose_centers(X, self.centers or default, p, generator)
        distinct = problem.distinct_rows(Z)
        all_of_them = distinct if Z is X else None
        if len(distinct.first) < len(Z):
            Z = Z[distinct.first]
        return Z if Z is X else Z.to(problem.device), all_of_them
