"""A training: a solver, the system it set up, what it carries, and its records so far."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, Generic, TypeAlias

from torch import Tensor

from kernelexp.engine.model import KernelModel
from kernelexp.engine.norms import RKHSNorm
from kernelexp.engine.ranks import Ranks, led
from kernelexp.engine.singular import SOLVED, SingularMatrixWarning, unsolved
from kernelexp.engine.solvers.base import It, S, Solver
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.settling import Settled, settled
from kernelexp.engine.solvers.state import Derived, Saved, restore, saved
from kernelexp.engine.solvers.stopping import Ending, EpochRecord


class Training(Generic[S, It]):
    """Training under way.

    Attributes:
        solver: which solver it is, where one was picked the one that was.
        system: what its set-up made.
        iterate: what it carries.
        plan: what is held in memory; its owner may add to it.
        records: of the epochs so far, since the start or the last restart, as training knows them.
        setup_seconds: time of the set-up.
        reason: why this solver, where it was picked (``solvers.auto``).
        stopped_by: what ended the run; None before.
        smaller_plan: whether memory ran out and a smaller plan was made.
    """

    def __init__(
        self,
        solver: Solver[S, It],
        system: S,
        setup_seconds: float = 0.0,
        reason: str | None = None,
        smaller_plan: bool = False,
    ) -> None:
        self.solver, self.system = solver, system
        self.iterate = solver.start(system)
        self.plan = system.plan
        self.records: list[EpochRecord] = []
        self.seconds = 0.0
        self.setup_seconds = setup_seconds
        self.reason = reason
        self.smaller_plan = smaller_plan
        self.stopped_by: Ending | None = None
        self._settled: Settled | None = None

    @property
    def problem(self) -> Problem:
        """What is learned."""
        return self.system.problem

    @property
    def warning(self) -> str | None:
        """The sentence for a system that has no solution, or was not solved, or not by the model as it is."""
        rounded = self._settled.warning if self._settled else None
        return "; ".join(said for said in (rounded, self.iterate.warning) if said) or None

    @property
    def left_over(self) -> str | None:
        """``warning``; where there is none, what is left of a system that epochs or somebody's rule ended too early."""
        left = self.residuals().get("relative_residual", 0.0)
        if self.warning is not None or not left > SOLVED:
            return self.warning
        ended = self.stopped_by in (Ending.TOLERANCE, Ending.LEAST_SQUARES)
        way = "a smaller solver.tolerance" if ended else "more epochs"
        return unsolved(left, getattr(self.solver, "ridge", 0.0), way)

    @property
    def ranks(self) -> Ranks:
        """The processes that train it together."""
        return self.problem.ranks

    def run(self, after_round: Callable[[], None] | None = None) -> Iterator[EpochRecord]:
        """Train until the last epoch, a tolerance or a stop rule, named in ``stopped_by``.

        After a divergence training starts again, and so do the epochs of its records. What a system left undone is said in
        ``warning``, and once as a ``SingularMatrixWarning``. ``after_round`` is called between rounds, several times in a long
        epoch; what it raises ends the run in a state that can be saved.
        """
        while self.stopped_by is None:
            record = self.advance()
            if record is not None:
                record = self._add(record)
            if after_round is not None:
                after_round()
            if record is not None:
                if self.stopped_by is not None:
                    self._warn()
                yield record

    def _warn(self) -> None:
        if self.warning is not None:
            warnings.warn(self.warning, SingularMatrixWarning, stacklevel=3)

    @led
    def advance(self) -> EpochRecord | None:
        """One round: the record of an epoch that it completes, else None."""
        self._settled = None
        # With the seconds of rank 0, by which a stop rule may decide.
        return self.ranks.agreed(self.solver.advance(self.system, self.iterate))

    def _add(self, record: EpochRecord) -> EpochRecord:
        """The record as it counts: at the end it is that of the model."""
        self.seconds += record.seconds
        self.records = [*self.records[: record.epoch - 1], record]
        self.stopped_by = self._ending()
        if self.stopped_by is not None:
            self.settle()
        return self.last

    @property
    def last(self) -> EpochRecord:
        """The last epoch's record: at the end that of the model, which stop rules have not seen."""
        return self._settled.record if self._settled else self.records[-1]

    @led
    def settle(self) -> None:
        """Hold what was recorded last against the model: the end of a training."""
        last = self.ranks.agreed(self.records[-1] if self.records else None)
        if last is not None:
            self._settled = settled(self.solver, self.system, self.iterate, last)

    @led
    def go_back(self, stored: Saved | None = None) -> None:
        """To where ``saved`` was called in this training; on ranks that follow without it."""
        self.restore(stored)

    def end(self, by: Ending | None) -> None:
        """No further epoch: somebody else has decided so."""
        self.stopped_by = by
        if by is not None:
            self.settle()
            self._warn()

    def _ending(self) -> Ending | None:
        if self.iterate.converged:
            return Ending.LEAST_SQUARES if self.warning else Ending.TOLERANCE
        rule = self.solver.stop.reason(self.records, self.seconds)
        if rule is None and self.iterate.epoch >= self.solver.max_epochs:
            return Ending.EPOCHS
        return rule

    @led
    def model(self) -> KernelModel:
        """The kernel machine as it stands: a value, which later epochs do not change."""
        return self.solver.model(self.system, self.iterate)

    @led
    def weights(self) -> Tensor:
        """Its weights alone, (p, c), not a copy."""
        return self.solver.weights(self.system, self.iterate)

    @led
    def training_outputs(self) -> Tensor:
        """f(X) on the training points, (n, c); at hand, or computed."""
        if self._settled and self._settled.outputs is not None:
            return self._settled.outputs
        return self.solver.training_outputs(self.system, self.iterate)

    def derived(self) -> Derived:
        """The quantities that set-up chose or measured, by name."""
        return self.system.derived()

    def residuals(self) -> dict[str, float]:
        """Relative residuals, by name; empty where the training error says it."""
        return self.solver.residuals(self.iterate)

    def path(self) -> dict[str, list[float]]:
        """What was found for each value of a grid, by name; empty for a solver without one."""
        return self.solver.path(self.system, self.iterate)

    def choice(self) -> dict[str, float]:
        """What of it was chosen, and why, by the names of metrics."""
        return self.solver.choice(self.system, self.iterate)

    def features(self) -> Tensor | None:
        """What was learned of the coordinates, (d, d), or (d,) of a diagonal matrix; None for a solver that learns nothing of them."""
        return self.solver.features(self.iterate)

    @led
    def rkhs_norm(self) -> RKHSNorm:
        """The norm of the model as it stands, with an estimate of its error."""
        outputs = self.solver.center_outputs(self.system, self.iterate)
        norm = self.model().rkhs_norm(outputs)
        left = self.residuals().get("relative_residual", 0.0)
        return replace(norm, lower_bound=left > SOLVED)

    @led
    def saved(self) -> Saved:
        """All that is carried: tensors (not copies) and, as JSON takes it, the rest and the plan."""
        stored = saved(self.iterate, self.ranks, len(self.problem.X))
        numbers = {
            "iterate": stored.numbers,
            "records": [asdict(record) for record in self.records],
            "seconds": self.seconds,
            "plan": self.plan.to_dict(),
        }
        return Saved(stored.tensors, numbers)

    def restore(self, stored: Saved | None) -> None:
        """Go on where ``saved`` was called, after a ``prepare`` with the same problem and that plan.

        Of several ranks, also of another number than then, all call it, and what the first has counts. With more
        epochs, or another stop rule, than it was saved with, a finished training goes on.

        Raises:
            ValueError: where it is of another solver or version.
        """
        stored = self.ranks.agreed(stored)
        assert stored is not None
        restore(self.iterate, Saved(stored.tensors, stored.numbers["iterate"]), self.ranks)
        self.records = [EpochRecord(**record) for record in stored.numbers["records"]]
        self.seconds = stored.numbers["seconds"]
        # What stopped it before may not stop it now.
        whole = self.records and len(self.records) == self.iterate.epoch
        self._settled = None
        self.stopped_by = self._ending() if whole else None
        if self.stopped_by is not None:
            self.settle()
        elif not self.solver.moves:
            self.iterate.warning = None  # was said of the end that it had, and not of an epoch


AnyTraining: TypeAlias = Training[Any, Any]
