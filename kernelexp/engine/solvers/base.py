"""What every solver is: hyper-parameters and pure steps between values.

    plan = solver.plan(sizes, limits, device)       what will be held, how work is cut up
    system = solver.setup(problem, plan)            what training reads
    iterate = solver.start(system)                  what training carries
    record = solver.step(system, iterate)           one epoch, in rounds

``solver.prepare(problem)`` does the first three and returns a ``Training``, which runs the fourth until a
stop rule holds. A solver never prints, never sees test data and draws only from a source made from the seed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.model import KernelModel, predicted_labels
from kernelexp.engine.plan import Limits, Plan, Sizes
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.state import Iterate, System
from kernelexp.engine.solvers.stopping import EpochRecord, StopRule

S = TypeVar("S", bound=System)
It = TypeVar("It", bound=Iterate)

# Points on which f(X) as carried along is held against the model, and how many times the mean square of
# the difference a training error must be to be believed.
_DRIFT_POINTS, _FARTHEST, TRUSTED = 256, 8, 10.0
# With a stop rule and no number of epochs given: the end of patience with a rule that is never met.
MOST_EPOCHS = 1000


class DivergenceError(RuntimeError):
    """Training grew instead of shrinking, and a smaller step did not help."""


@dataclass(frozen=True)
class SolverOption(ABC):
    """What ``solver=NAME`` stands for: a solver, or a rule that picks one.

    Attributes:
        epochs: passes over the data; null: the solver's default, or up to 1,000 with a stop rule.
        stop: when to stop earlier.
    """

    name: ClassVar[str]
    default_epochs: ClassVar[int] = 10
    # Whether it solves at once, so that a second epoch would do the first's work again.
    direct: ClassVar[bool] = False
    epochs: int | None = None
    stop: StopRule = field(default_factory=StopRule)

    def __post_init__(self) -> None:
        number("epochs", self.epochs, 1, whole=True, optional=True)

    @property
    def max_epochs(self) -> int:
        """The most epochs a run takes."""
        if self.direct:
            return 1
        if self.epochs is not None:
            return self.epochs
        return self.default_epochs if self.stop == StopRule() else MOST_EPOCHS

    @property
    def likely_epochs(self) -> int:
        """What is asked for; the solver's default where a stop rule will tell."""
        return 1 if self.direct else self.epochs or self.default_epochs

    def watched(self) -> Self:
        """The same for whoever ends it by scores of its own: as many epochs as with a rule, planned as with one."""
        ruled = replace(self, stop=replace(self.stop, patience=1))
        return replace(self, stop=replace(self.stop, patience=ruled.max_epochs))  # never comes

    def sizes(self, problem: Problem) -> Sizes:
        """What a plan is made for."""
        (n, d), c = problem.X.shape, problem.Y.shape[1]
        ranks, itemsize = problem.ranks.size, problem.X.element_size()
        return Sizes(n, d, c, self.count_distinct(problem), itemsize, ranks)

    def count_distinct(self, problem: Problem) -> int:
        """How many points differ, as far as the plan needs to know: here not at all."""
        return len(problem.X)

    @abstractmethod
    def choose(
        self, sizes: Sizes, limits: Limits, device: torch.device
    ) -> tuple[AnySolver, str | None]:
        """The solver for a problem of these sizes, and why, in a line, where it was picked.

        Raises:
            ValueError: where a size exceeds the data.
        """


@dataclass(frozen=True)
class Solver(SolverOption, Generic[S, It]):
    """Hyper-parameters of a solver; null means chosen from the resource and the spectrum.

    ``S``: what its set-up makes, ``It``: what its training carries.
    """

    # Whether several ranks share the work; else the first does all of it.
    sharded: ClassVar[bool] = True
    # Whether its kernel changes from epoch to epoch, so that no K can be kept.
    moves: ClassVar[bool] = False
    # Whether it minimises a weighted loss, where points have weights.
    weighted: ClassVar[bool] = False
    # Whether f(X) comes from anything else than the model, and so may differ from what that predicts.
    carries: ClassVar[bool] = True

    @abstractmethod
    def plan(self, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
        """What a run of these sizes will hold, and how its work is cut up; looks at nothing else.

        Raises:
            ValueError: where a size exceeds the data, or it does not fit; the message says what would.
        """

    @abstractmethod
    def setup(self, problem: Problem, plan: Plan) -> S:
        """The expensive part, once.

        Raises:
            ValueError: where a size exceeds the data, or the kernel is not one.
        """

    @abstractmethod
    def start(self, system: S, weights: Tensor | None = None) -> It:
        """The function f = 0, or that of given weights (p, c) at the centers of the system."""

    @abstractmethod
    def advance(self, system: S, iterate: It) -> EpochRecord | None:
        """One round, in place: the record of an epoch that it completes, else None.

        Raises:
            DivergenceError: when the loss grows a second time, with half the step.
        """

    def step(self, system: S, iterate: It) -> EpochRecord:
        """One epoch, in place: rounds to its end."""
        while (record := self.advance(system, iterate)) is None:
            pass
        return record

    @abstractmethod
    def weights(self, system: S, iterate: It) -> Tensor:
        """Alpha (p, c) as it stands, in the type of the targets; later rounds may change it."""

    @abstractmethod
    def training_outputs(self, system: S, iterate: It) -> Tensor:
        """f(X) on the training points, (n, c); at hand, or computed."""

    def solved(self, system: S, iterate: It, rows: Tensor) -> Tensor:
        """F at some training points as training knows it, before weights are rounded: rows (m,) -> (m, c)."""
        return self.training_outputs(system, iterate)[rows.to(system.problem.device)]

    def predicted(self, system: S, iterate: It, rows: Tensor) -> Tensor:
        """F at some training points as its model predicts it: rows (m,) -> (m, c)."""
        return system.predictions_at(system.problem.points[rows], self.weights(system, iterate))

    def center_outputs(self, system: S, iterate: It) -> Tensor:
        """f(Z) at the centers, (p, c), as carried along; here the training points'."""
        return self.training_outputs(system, iterate)

    def refresh(self, system: S, iterate: It) -> None:
        """Compute f(X) anew from the weights, where it is carried along: here it is not."""

    def residuals(self, iterate: It) -> dict[str, float]:
        """Relative residuals at the end, by name; empty where the training error says it."""
        return {}

    def path(self, system: S, iterate: It) -> dict[str, list[float]]:
        """What was found for each value of a grid, by name; empty for a solver without one."""
        return {}

    def choice(self, system: S, iterate: It) -> dict[str, float]:
        """What of it was chosen, and why, by the names of metrics."""
        return {}

    def features(self, iterate: It) -> Tensor | None:
        """What was learned of the coordinates, (d, d), or (d,) of a diagonal matrix; None for a solver that learns nothing of them."""
        return None

    def model(self, system: S, iterate: It) -> KernelModel:
        """The kernel machine as it stands: a value, which later rounds do not change."""
        weights = self.weights(system, iterate).clone()
        return KernelModel(system.problem.kernel, system.centers, weights)

    def choose(
        self, sizes: Sizes, limits: Limits, device: torch.device
    ) -> tuple[AnySolver, str | None]:
        return self, None

    def record(
        self,
        system: S,
        iterate: It,
        train_mse: float | None = None,
        train_error: float | None = None,
    ) -> EpochRecord:
        """End the epoch under way: its record, of training errors given, else of f(X) as it is."""
        if train_mse is None:
            ranks, targets = system.ranks, system.targets
            outputs = self.training_outputs(system, iterate)
            train_mse = ranks.agreed(_mse(outputs, targets))
            # May it be what f(X) as carried along has rounded off? It takes some time to see.
            small = math.sqrt(torch.finfo(targets.dtype).eps) * system.mean_square
            if train_mse < small and train_mse < TRUSTED * ranks.agreed(
                self._drift(system, iterate, outputs)
            ):
                self.refresh(system, iterate)
                outputs = self.training_outputs(system, iterate)
                train_mse = _mse(outputs, targets)
            train_error = error_of(outputs, system.problem.labels)
        weights = self.weights(system, iterate).double()
        squares = (weights * self.center_outputs(system, iterate).double()).sum()
        norm = squares.clamp_(min=0).sqrt_().item()
        iterate.epoch += 1
        seconds, iterate.seconds = iterate.seconds, 0.0
        return EpochRecord(iterate.epoch, train_mse, train_error, norm, seconds)

    def _drift(self, system: S, iterate: It, outputs: Tensor) -> float:
        """Mean square of f(X) as carried along, (n, c), minus the model's, on some points."""
        some = Sample.of(system.problem)
        carried = outputs[some.rows.to(system.problem.device)]
        off = self.predicted(system, iterate, some.rows) - carried
        return some.mean_squares(off).mean().item()


AnySolver: TypeAlias = Solver[Any, Any]


@dataclass(frozen=True)
class Sample:
    """Training points on which a model is held against what it should be.

    Attributes:
        rows: which they are, (m,), of the host.
        shares: of all training points, what each stands for, (m, 1), float64.
    """

    rows: Tensor
    shares: Tensor

    @classmethod
    def of(cls, problem: Problem) -> Sample:
        """Up to 256 that are drawn by the seed, and those of the largest norm: rounding of a kernel that grows is there."""
        n = len(problem.X)
        far = problem.points.norms.topk(min(_FARTHEST, n)).indices.cpu()
        order = torch.randperm(n, generator=problem.generator())
        drawn = order[~torch.isin(order, far)][:_DRIFT_POINTS]
        each = torch.ones(len(far) + len(drawn), 1, dtype=torch.float64)
        each[len(far) :] = (n - len(far)) / max(1, len(drawn))
        return cls(torch.cat([far, drawn]), each.div_(n).to(problem.device))

    def mean_squares(self, off: Tensor) -> Tensor:
        """Estimates of the means over all points of squares that are known at these: (m, c) -> (c,), float64."""
        return (off.double().square() * self.shares).sum(0)


def _mse(outputs: Tensor, targets: Tensor) -> float:
    return (outputs - targets).square_().mean().item()


def error_of(outputs: Tensor, labels: Tensor | None) -> float | None:
    """Share of wrong training labels of outputs (n, c); None for regression."""
    if labels is None:
        return None
    return (predicted_labels(outputs) != labels).double().mean().item()
