"""The way into a training: ``prepare``, which plans and sets up, and ``fit``, which runs it too.

training = prepare(solver, problem)
for record in training.run():
    ...                         # log, evaluate: the caller's affair
model = training.model()
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from kernelexp.engine import memory
from kernelexp.engine.checks import number
from kernelexp.engine.model import KernelModel
from kernelexp.engine.plan import GB, Limits, Plan, Sizes
from kernelexp.engine.resource import clock
from kernelexp.engine.solvers.base import AnySolver, SolverOption
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.training import AnyTraining, Training

# What is planned with after memory ran out.
_SMALLER = 0.75
# A plan may have taken all memory there was to plan with, which leaves a tenth of the machine's free; that
# there is a little less now must not keep it from being followed again.
_SLACK = 1 / 0.9


def prepare(option: SolverOption, problem: Problem, plan: Plan | None = None) -> AnyTraining:
    """The expensive set-up, once; ``plan``: one that was made before, of a checkpoint.

    Where the memory that was planned is not there after all, it is made again with three quarters of it, once, with a
    warning; ``smaller_plan`` says so. Of several ranks all call it, with equal problems; where the solver is one that
    rank 0 runs alone, the others get ``NothingToDo``.

    Raises:
        ValueError: where a size exceeds the data or the memory, the kernel is not one, or the data have nothing for a
            stop rule.
    """
    if not isinstance(option, SolverOption):
        raise ValueError(f"solver {option!r}: must be one, as SOLVERS['eigenpro2']()")
    option.stop.check(problem.labels)
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
