"""A training: a solver, the system it set up, what it carries, and its records so far.

training = prepare(solver, problem)
for record in training.run():
    ...                         # log, evaluate: the caller's affair
model = training.model()
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, Generic, TypeAlias

import torch
from torch import Tensor

from kernelexp.engine import memory
from kernelexp.engine.checks import number
from kernelexp.engine.model import KernelModel
from kernelexp.engine.norms import RKHSNorm
from kernelexp.engine.plan import GB, Limits, Plan, Sizes
from kernelexp.engine.ranks import Ranks, led
from kernelexp.engine.resource import clock
from kernelexp.engine.singular import SOLVED, SingularMatrixWarning
from kernelexp.engine.solvers.base import AnySolver, It, S, Solver, SolverOption
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.settling import Settled, settled
from kernelexp.engine.solvers.state import Derived, Saved, restore, saved
from kernelexp.engine.solvers.stopping import Ending, EpochRecord

# What is planned with after memory ran out.
_SMALLER = 0.75
# A plan may have taken all memory there was to plan with, which leaves a tenth of the machine's free; that
# there is a little less now must not keep it from being followed again.
_SLACK = 1 / 0.9


class Training(Generic[S, It]):
    """Training under way.

    Attributes:
        solver: which solver it is, where one was picked the one that was.
        system: what its set-up made.
        iterate: what it carries.
        plan: what is held in memory; its owner may add to it.
        records: of the epochs so far, since the start or the last restart.
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
                if self.stopped_by is not None and self.warning is not None:
                    warnings.warn(self.warning, SingularMatrixWarning, stacklevel=2)
                yield record

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
        return self.records[-1]

    @led
    def settle(self) -> None:
        """Hold what was recorded last against the model: the end of a training."""
        last = self.ranks.agreed(self.records[-1] if self.records else None)
        if last is not None:
            self._settled = settled(self.solver, self.system, self.iterate, last)
            self.records = [*self.records[:-1], self._settled.record]

    @led
    def go_back(self, stored: Saved | None = None) -> None:
        """To where ``saved`` was called in this training; on ranks that follow without it."""
        self.restore(stored)

    def end(self, by: Ending | None) -> None:
        """No further epoch: somebody else has decided so."""
        self.stopped_by = by
        if by is not None:
            self.settle()

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
        self._settled, self.stopped_by = None, self._ending() if whole else None
        if self.stopped_by is None:
            self.iterate.warning = None  # was said of the end that it had
        else:
            self.settle()


AnyTraining: TypeAlias = Training[Any, Any]


def prepare(option: SolverOption, problem: Problem, plan: Plan | None = None) -> AnyTraining:
    """The expensive set-up, once; ``plan``: one that was made before, of a checkpoint.

    Where the memory that was planned is not there after all, it is made again with three quarters of it, once, with a
    warning; ``smaller_plan`` says so. Of several ranks all call it, with equal problems; where the solver is one that
    rank 0 runs alone, the others get ``NothingToDo``.

    Raises:
        ValueError: where a size exceeds the data or the memory, or the kernel is not one.
    """
    if not isinstance(option, SolverOption):
        raise ValueError(f"solver {option!r}: must be one, as SOLVERS['eigenpro2']()")
    device, ranks = problem.device, problem.ranks
    number("resource.ranks", ranks.size, 1, len(problem.X), whole=True)
    start = clock(device)
    _ = problem.points  # what they take is held before anything is planned
    limits, sizes = problem.measured_limits(), option.sizes(problem)
    # Of a plan that was made before the same solver is picked, whatever memory there is now.
    then = limits if plan is None else plan.limits(problem.limits)
    solver, reason = option.choose(sizes, then, device)
    if problem.point_weights is not None and not solver.weighted:
        taken = "" if solver is option else f", which solver={option.name} takes here"
        raise ValueError(
            f"point_weights: must be None with solver={solver.name}{taken}; solver=exact takes them, for many points "
            "with solver.n_centers"
        )
    if not (solver.sharded or ranks.alone):
        return prepare(option, replace(problem, ranks=ranks.dismissed()), plan)
    smaller = False
    try:
        if plan is None:
            system = solver.setup(problem, _planned(solver, sizes, limits, device))
        else:
            if plan.ranks != ranks.size:
                plan = plan.for_ranks_of(_planned(solver, sizes, limits, device))
            _check(plan, solver, limits)
            system = solver.setup(problem, plan)
        ranks.all_here()
    except RuntimeError as error:
        if plan is not None or not memory.is_exhausted(error):
            raise
        smaller = True
    if smaller:  # outside of the handler, whose traceback would keep what was allocated
        memory.release(device)
        ranks.begin_again()
        limits = _three_quarters(problem)
        system = solver.setup(problem, _planned(solver, sizes, limits, device))
    return Training(solver, system, clock(device) - start, reason, smaller)


def _planned(solver: AnySolver, sizes: Sizes, limits: Limits, device: torch.device) -> Plan:
    return replace(solver.plan(sizes, limits, device), ranks=sizes.ranks)


def _check(plan: Plan, solver: AnySolver, limits: Limits) -> None:
    if plan.solver != solver.name:
        raise ValueError(f"solver={solver.name}: the plan to go on with is of {plan.solver}")
    room = replace(limits, allowed=limits.held + int(_SLACK * (limits.allowed - limits.held)))
    plan.refuse_unless_it_fits(room, "going on as it was begun", "free memory")


def _three_quarters(problem: Problem) -> Limits:
    """Of the memory there is; with a warning."""
    asked = replace(problem.limits, memory_gb=_SMALLER * problem.measured_limits().allowed / GB)
    warnings.warn(
        f"out of memory; started again with resource.memory_gb={asked.memory_gb:.2f}",
        RuntimeWarning,
        stacklevel=3,
    )
    return replace(problem, limits=asked).measured_limits()


def fit(option: SolverOption, problem: Problem) -> KernelModel:
    """``prepare`` and ``run`` in one call, for use as a library."""
    training = prepare(option, problem)
    list(training.run())
    return training.model()
