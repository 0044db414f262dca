"""What a run would hold in memory, known before data are read: from sizes and settings alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import NoReturn

import torch
from torch import Tensor

from kernelexp.comparisons import EXACT
from kernelexp.data.base import Shape
from kernelexp.engine import MemoryPlan, Problem, ResourceLimits
from kernelexp.engine.resource import GB
from kernelexp.engine.singular import DistinctRows
from kernelexp.engine.solvers.auto import Auto
from kernelexp.engine.solvers.base import RestrictedSolver
from kernelexp.engine.solvers.sgd import SGD
from kernelexp.engine.solvers.sgd_plan import plan_sgd
from kernelexp.experiment import Config


class _Planned(Exception):
    """Carries the plan out of a solver's set-up, of which nothing else is wanted."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan


class _PlanOnly(ResourceLimits):
    """The same limits; the work ends where a plan is made."""

    def accept(self, plan: MemoryPlan) -> NoReturn:
        raise _Planned(plan)


class _SizesAlone(Problem):
    """Points that were not read: they are taken to differ."""

    def distinct_rows(self, X: Tensor) -> DistinctRows:
        index = torch.arange(len(X))
        return DistinctRows(index, index, torch.ones_like(index))


def planned_memory(config: Config) -> MemoryPlan | None:
    """The memory plan of a run, None where the data's sizes are not known without reading them.

    The solver's own plan, made for points that take no memory, and the data, with codes as if they were
    bytes. Kernel rows that a solver keeps for speed come on top, as far as there is room.

    Raises:
        ValueError: where the run does not fit, or a size exceeds the data.
    """
    shape = config.dataset.shape()
    if shape is None:
        return None
    plans = [_plan(config, shape)]
    if "exact" in config.compare:
        plans.append(_plan(replace(config, solver=EXACT, dtype=torch.float64), shape))
    plan = max(plans, key=lambda plan: plan.peak_gb)
    n, n_test, d, c = shape
    numbers = n * c + n_test * (d + c) + (0 if config.dataset.mapped else n * d)
    codes = n * d if config.precision == "auto" else 0  # where they turn out to be bytes
    process = plan.gigabytes["process"] + (numbers * config.dtype.itemsize + codes) / GB
    return replace(plan, gigabytes={**plan.gigabytes, "process": process})


def _plan(config: Config, shape: Shape) -> MemoryPlan:
    """The plan without the data."""
    nothing = torch.zeros(1, 1, dtype=config.dtype, device=config.device)
    X = nothing.expand(shape.n_train, shape.n_features)
    Y = nothing.expand(shape.n_train, shape.n_outputs)
    problem = _SizesAlone(config.kernel, X, Y, limits=_PlanOnly(**asdict(config.resource)))
    solver = config.solver
    if isinstance(solver, Auto):
        solver, _ = solver.pick(problem)
    if isinstance(solver, SGD):
        solver.check_sizes(problem)
        sizes = solver.subsample_size, solver.fixed_q(problem), solver.batch_size
        return plan_sgd(problem, *sizes, solver.corrects_all)
    if isinstance(solver, RestrictedSolver) and solver.centers == "kmeans":
        solver = replace(solver, centers="random")  # as many, without computing the means
    try:
        solver.setup(problem)
    except _Planned as planned:
        return planned.plan
    raise AssertionError(f"{solver.name} makes no memory plan")
