"""The two parts of a training: what can be made again from problem, plan and seed, and what is carried.

Checkpoints, going on, restarts and warm starts are functions of the second part alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kernelexp.engine.batch import critical_batch_size
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Plan
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.solvers.problem import Problem

# What a set-up chose or measured, by name.
Derived: TypeAlias = dict[str, float | int | str]
# Metadata of a field of an iterate: a tensor of n rows, of which each of several ranks has its own.
SHARDED = {"sharded": True}


@dataclass(frozen=True)
class System:
    """What a set-up makes, and could make again: nothing in it changes while training goes on.

    Attributes:
        problem: what is learned.
        plan: what it was made by.
        centers: Z, (p, d); the training points X where all of them are.
        targets: Y, (n, c), stored as the solver reads them.
    """

    problem: Problem
    plan: Plan
    centers: Tensor
    targets: Tensor

    @property
    def kernel(self) -> BlockedKernel:
        """k, evaluated in the pieces of the plan."""
        return BlockedKernel(self.problem.kernel, self.plan.tiling)

    @property
    def ranks(self) -> Ranks:
        """The processes that share the work."""
        return self.problem.ranks

    def outputs_at(self, points: Points, weights: Tensor) -> Tensor:
        """Outputs (m, c) at points (m, d) of weights (p, c), computed in their type."""
        return self.kernel(points, self.problem.points_of(self.centers)).matmul(weights)

    def predictions_at(self, points: Points, weights: Tensor) -> Tensor:
        """``outputs_at`` as the model has them: its inner products are not those of a ``precision`` for training."""
        problem, kernel = self.problem, self.kernel
        if problem.precision == "auto":
            return self.outputs_at(points, weights)
        X, Z = (
            Points.of(values, device=problem.device) for values in (points.values, self.centers)
        )
        return kernel(X, Z).matmul(weights)

    @cached_property
    def mean_square(self) -> float:
        """Of the targets: the training error of f = 0."""
        return self.targets.square().mean().item()

    def derived(self) -> Derived:
        """The quantities that set-up chose or measured, by name."""
        return {}

    def of_kernel(self, top_eigenvalue: float) -> Derived:
        """lambda_1 of K / n, and m*(k) = max k(x, x) / lambda_1, by name; one evaluation of the diagonal."""
        beta = self.kernel.diag(self.problem.X).max().item()
        return {
            "m_star": critical_batch_size(beta, top_eigenvalue),
            "top_eigenvalue": top_eigenvalue,
        }


@dataclass(kw_only=True)
class Iterate:
    """What is carried from round to round: tensors, counters, text; flat.

    Attributes:
        epoch: epochs done, since the start or the last restart.
        seconds: of the epoch under way, so far.
        converged: whether the solver has reached the tolerance it was given.
        warning: the sentence for a system that has no solution, or was not solved.
    """

    epoch: int = 0
    seconds: float = 0.0
    converged: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class Saved:
    """All that is carried, in a form that files take.

    Attributes:
        tensors: by name, the live ones.
        numbers: the rest, as JSON takes it.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def saved(iterate: Iterate, ranks: Ranks, n: int) -> Saved:
    """The fields of an iterate of n points, whole."""
    tensors, numbers = {}, {}
    for f in fields(iterate):
        value = getattr(iterate, f.name)
        if isinstance(value, Tensor):
            tensors[f.name] = ranks.gather(value, n) if f.metadata == SHARDED else value
        else:
            numbers[f.name] = value
    return Saved(tensors, numbers)


def restore(iterate: Iterate, stored: Saved, ranks: Ranks) -> None:
    """Put saved fields into an iterate that was just started, on several ranks their own rows.

    Tensors of the same shape are stored as they were: by rows or by columns decides the last digits of products with
    them. They are new ones, since a model that was handed out may have the former.

    Raises:
        ValueError: where the fields are those of another solver or another version.
    """
    names = {f.name: f.metadata == SHARDED for f in fields(iterate)}
    if names.keys() != {*stored.tensors, *stored.numbers}:
        raise ValueError(
            f"saved fields {sorted({*stored.tensors, *stored.numbers} ^ names.keys())} differ"
        )
    for name, value in stored.tensors.items():
        own = getattr(iterate, name)
        value = ranks.own(value) if names[name] else value
        if own.shape == value.shape and own.dtype == value.dtype:
            setattr(iterate, name, torch.empty_like(own).copy_(value))
        else:
            setattr(iterate, name, value.to(own.device))
    for name, number in stored.numbers.items():
        setattr(iterate, name, number)


def draw_permutation(state: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """A random order of n things, and the state of the source of draws after it."""
    generator = torch.Generator()
    generator.set_state(state)
    return torch.randperm(n, generator=generator), generator.get_state()
