"""What every solver is: hyper-parameters, an expensive ``prepare``, an iterator of epochs.

    state = solver.prepare(problem)
    for record in solver.run(state):
        ...                         # log, evaluate, checkpoint: the caller's affair
    model = state.model()

A solver never prints, never sees test data and draws only from a generator made from the seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.model import KernelModel
from kernelexp.engine.resource import MemoryPlan, ResourceLimits

DEFAULT_EPOCHS = 10
# With a stop rule and no number of epochs given: the end of patience with a rule that is never met.
MOST_EPOCHS = 1000


class DivergenceError(RuntimeError):
    """Training grew instead of shrinking, and a smaller step did not help."""


@dataclass(frozen=True)
class Problem:
    """What is to be learned.

    Attributes:
        kernel: k.
        X: (n, d) training points.
        Y: (n, c) targets; for classes one-hot {0, 1}.
        labels: (n,) class of each point, or None for regression.
        seed: every draw of the solver comes from it.
        limits: what the run may take.
        block_size: rows of the kernel matrix computed together (``measure_block_size``).
    """

    kernel: Kernel
    X: Tensor
    Y: Tensor
    labels: Tensor | None = None
    seed: int = 0
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    block_size: int = 2048

    def __post_init__(self) -> None:
        if self.X.ndim != 2 or self.Y.ndim != 2 or len(self.X) != len(self.Y) or not len(self.X):
            raise ValueError(
                f"X {tuple(self.X.shape)} and Y {tuple(self.Y.shape)}: must be (n, d) and (n, c), n > 0"
            )


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left; exact values over the whole training set after the epoch.

    Attributes:
        epoch: 1, 2, ...
        train_mse: mean over points and outputs of (f(x) - y)^2.
        train_error: share of training points whose largest output is not their label; None for
            regression.
        rkhs_norm: sqrt(tr(alpha^T K alpha)).
        seconds: time of this epoch.
    """

    epoch: int
    train_mse: float
    train_error: float | None
    rkhs_norm: float
    seconds: float


@dataclass(frozen=True)
class StopRule:
    """When to stop before the last epoch; null means off, the first to hold ends the run.

    Attributes:
        train_error: stop at this share of wrong training labels or fewer (0: "overfitted").
        train_mse: stop at this training error or less (near 0: "interpolated").
        seconds: stop after this much training time.
        patience: stop after this many epochs without a new lowest train_mse.
    """

    train_error: float | None = None
    train_mse: float | None = None
    seconds: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        number("stop.train_error", self.train_error, 0, 1, optional=True)
        number("stop.train_mse", self.train_mse, 0, optional=True)
        number("stop.seconds", self.seconds, above=0, optional=True)
        number("stop.patience", self.patience, 1, whole=True, optional=True)

    def reason(self, records: list[EpochRecord]) -> str | None:
        """The name of the rule that ends a run with these records, or None."""
        last = records[-1]
        best = min(range(len(records)), key=lambda i: records[i].train_mse)
        met = {
            "train_error": _at_most(last.train_error, self.train_error),
            "train_mse": _at_most(last.train_mse, self.train_mse),
            "seconds": _at_most(self.seconds, sum(r.seconds for r in records)),
            "patience": _at_most(self.patience, len(records) - 1 - best),
        }
        return next((name for name, holds in met.items() if holds), None)


def _at_most(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value <= bound


class State(Protocol):
    """What ``prepare`` returns: everything the iteration carries, there to be looked at."""

    plan: MemoryPlan
    predictions: Tensor  # f(X) on the training points, (n, c)
    setup_seconds: float
    stopped_by: str | None

    def model(self) -> KernelModel:
        """The kernel machine as it stands."""

    def rkhs_norms(self) -> Tensor:
        """||f_c|| of each output, (c,)."""

    def derived(self) -> dict[str, Any]:
        """The quantities that set-up chose or measured, by name."""


@dataclass(frozen=True)
class Solver(ABC):
    """Hyper-parameters of a solver; null means chosen from the resource and the spectrum.

    Attributes:
        epochs: passes over the data; null: 10, or up to 1,000 with a stop rule.
        stop: when to stop earlier.
    """

    name: ClassVar[str]
    epochs: int | None = None
    stop: StopRule = field(default_factory=StopRule)

    def __post_init__(self) -> None:
        number("epochs", self.epochs, 1, whole=True, optional=True)

    @property
    def max_epochs(self) -> int:
        """The most epochs a run takes."""
        if self.epochs is not None:
            return self.epochs
        return DEFAULT_EPOCHS if self.stop == StopRule() else MOST_EPOCHS

    @abstractmethod
    def prepare(self, problem: Problem) -> Any:
        """The expensive set-up, once."""

    @abstractmethod
    def iterate(self, state: Any) -> Iterator[EpochRecord]:
        """Train, one epoch for each record asked for, without end."""

    def run(self, state: Any) -> Iterator[EpochRecord]:
        """Train until the last epoch or a stop rule, whose name then is ``state.stopped_by``."""
        records: list[EpochRecord] = []
        for record in self.iterate(state):
            records.append(record)
            state.stopped_by = self.stop.reason(records)
            if state.stopped_by is None and len(records) >= self.max_epochs:
                state.stopped_by = "epochs"
            yield record
            if state.stopped_by is not None:
                return

    def fit(self, problem: Problem) -> KernelModel:
        """``prepare`` and ``run`` in one call, for use as a library."""
        state = self.prepare(problem)
        for _ in self.run(state):
            pass
        model: KernelModel = state.model()
        return model
