"""The solver for a problem: by the number of points and centers, memory and wanted accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from kernelexp.engine.checks import number
from kernelexp.engine.solvers.base import RestrictedSolver, Solver, State
from kernelexp.engine.solvers.cg import CG
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.eigenpro4 import EigenPro4
from kernelexp.engine.solvers.exact import Exact, fits
from kernelexp.engine.solvers.falkon import Falkon
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.stopping import EpochRecord

# A direct solve of this many operations takes seconds on a CPU: no iteration is needed then.
_FEW_OPERATIONS = 1e12
# Points looked at to see whether most repeat others; then all are, and exact takes repeated ones as one.
_LOOKED_AT = 2000
# From here on an epoch over all pairs of points, n^2 d operations, is out of proportion.
_MANY_POINTS = 500_000


@dataclass(frozen=True)
class Auto(RestrictedSolver):
    """Picks a solver, prepares it, and leaves the rest to it; ``state.reason`` says why in one line.

    ``exact`` where it is cheap (10^12 operations, and the matrix fits), or where a residual is asked for
    and the matrix fits in float64; else ``falkon`` with a ridge, ``cg`` to a residual with all centers,
    ``eigenpro4`` with p < n centers or more than 500,000 points, and ``eigenpro2``.

    Attributes:
        ridge: >= 0, in the units of a mean loss; 0: interpolation, or least squares.
        tolerance: the relative residual wanted; null: predictions as good as a few epochs make them.
    """

    name: ClassVar[str] = "auto"
    default_centers: ClassVar[str] = "all"
    ridge: float = 0.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("ridge", self.ridge, 0)
        number("tolerance", self.tolerance, above=0, high=1, optional=True)

    def pick(self, problem: Problem) -> tuple[Solver, str]:
        """The solver and the reason.

        Raises:
            ValueError: where there are more centers than points.
        """
        n = len(problem.X)
        restricted = self.n_centers is not None or self.centers not in (None, "all")
        p = self.n_centers or (self.default_n_centers(n) if restricted else _distinct(problem))
        number("solver.n_centers", p, 1, n, whole=True)
        operations = n * p**2 + p**3 / 3 if restricted else p**3 / 3
        what = "centers" if restricted else "of them different"
        size = f"{n:,} points" + (f" and {p:,} {what}" if p < n else "")
        takes = f"a direct solve with {size} takes {operations:.0e} operations"
        common = {"epochs": self.epochs, "stop": self.stop}
        span = {"centers": self.centers, "n_centers": self.n_centers}
        exact = Exact(ridge=self.ridge, **common, **span)  # type: ignore[arg-type]
        if operations <= _FEW_OPERATIONS and fits(problem, p, torch.float32):
            return exact, f"{takes}, which is little"
        if self.tolerance is not None and fits(problem, p, torch.float64):
            return exact, f"{takes}, its matrix fits, and a residual is asked for"
        if self.ridge > 0:
            tolerance = {} if self.tolerance is None else {"tolerance": self.tolerance}
            falkon = Falkon(ridge=self.ridge, **tolerance, **common, **span)  # type: ignore[arg-type]
            return falkon, f"{takes}, which is much; with a ridge its preconditioner is the best"
        if restricted or n > _MANY_POINTS:
            return EigenPro4(**common, **span), f"{takes}, which is much"  # type: ignore[arg-type]
        if self.tolerance is not None:
            cg = CG(tolerance=self.tolerance, **common)  # type: ignore[arg-type]
            return cg, f"a residual is asked for and the matrix of {size} does not fit"
        return EigenPro2(**common), f"{takes}, which is much"  # type: ignore[arg-type]

    def setup(self, problem: Problem) -> State:
        """Of the solver that is picked."""
        solver, reason = self.pick(problem)
        state = solver.setup(problem)
        state.reason = f"{solver.name}, since {reason}"
        return state

    def iterate(self, state: State) -> Iterator[EpochRecord]:
        """By the solver that made the state."""
        return state.solver.iterate(state)


def _distinct(problem: Problem) -> int:
    """How many of the training points differ, as far as a direct solve would gain from it."""
    X, n = problem.X, len(problem.X)
    some = torch.randperm(n, generator=problem.generator())[:_LOOKED_AT]
    if 2 * len(problem.distinct_rows(X[some.to(X.device)]).first) > len(some):
        return n
    return len(problem.distinct_rows(X).first)
