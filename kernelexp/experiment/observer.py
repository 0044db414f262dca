"""What a run tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from kernelexp.checkpoint import progress
from kernelexp.data import Dataset
from kernelexp.engine import Kernel, KernelModel, Plan, RKHSNorm


@dataclass(frozen=True)
class Start:
    """Where a run goes on from.

    Attributes:
        epochs: that are done.
        seconds: of training in them.
        folds: of a cross-validation that are done.
        resumed: how often the run has gone on after it was killed.
        warm_start: the run whose end this one begins with, by its id or, without one, as ``not tracked``;
            None where it is this run that was killed.
    """

    epochs: int
    seconds: float
    resumed: int
    warm_start: str | None = None
    folds: int = 0

    def __str__(self) -> str:
        done = progress(self.epochs, self.seconds, self.folds)
        if self.warm_start is not None:
            return f"begins with what run {self.warm_start} ended with: {done}"
        times = f", time number {self.resumed}" if self.resumed > 1 else ""
        return f"goes on from its checkpoint: {done}{times}"


@dataclass(frozen=True)
class Setup:
    """What is known before the first epoch.

    Attributes:
        dataset: what is trained on.
        kernel: with a bandwidth left to the data put in.
        plan: what the run will hold in memory.
        derived: what the solver chose or measured.
        device_name: of the device.
        max_epochs: the most epochs there will be.
        reason: why this solver, where it was picked.
        start: where it goes on from; None for the beginning.
    """

    dataset: Dataset
    kernel: Kernel
    plan: Plan
    derived: dict[str, Any]
    device_name: str
    max_epochs: int
    reason: str | None = None
    start: Start | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        setup: what was known before the first epoch.
        metrics: of ``metrics.RunMetrics``, by the names they are recorded under.
        norm: RKHS norm, also of each output, and how it was got.
        stopped_by: ``epochs`` or the stop rule that ended the run.
        model: the kernel machine.
        warning: one sentence where targets could not be met or the system is not solved; else None.
        path: what was found for each value of a grid, by name; empty where there was none.
        mistakes: what the model gets wrong on the test points, see ``experiment.mistakes``.
        features: what was learned of the coordinates, see ``experiment.features``; empty where nothing was.
    """

    setup: Setup
    metrics: dict[str, float]
    norm: RKHSNorm
    stopped_by: str
    model: KernelModel
    warning: str | None = None
    path: dict[str, list[float]] = field(default_factory=dict)
    mistakes: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Somebody who is told how a run goes: the terminal, the tracking store."""

    def loaded(self) -> None:
        """When data are there, before anything is timed: what takes the processor is to be over."""

    def prepared(self, setup: Setup) -> None:
        """Before the first epoch."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """After each epoch; of a run that goes on also those before, again."""

    def finished(self, result: RunResult) -> None:
        """At the end."""
