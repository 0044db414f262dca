"""The solver for a problem: by the number of points and centers, memory and wanted accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from kernelexp.engine.centers import CenterRule, check_centers
from kernelexp.engine.checks import number
from kernelexp.engine.plan import Limits, Sizes, matrix_fits
from kernelexp.engine.singular import DistinctRows
from kernelexp.engine.solvers.base import AnySolver, SolverOption
from kernelexp.engine.solvers.cg import CG
from kernelexp.engine.solvers.eigenpro2 import EigenPro2
from kernelexp.engine.solvers.eigenpro4 import EigenPro4
from kernelexp.engine.solvers.exact import Exact
from kernelexp.engine.solvers.falkon import Falkon
from kernelexp.engine.solvers.problem import Problem

# A direct solve of this many operations takes seconds on a CPU: no iteration is needed then.
_FEW_OPERATIONS = 1e12
# Points looked at to see whether most repeat others; then all are, and exact takes repeated ones as one.
_LOOKED_AT = 2000
# From here on an epoch over all pairs of points, n^2 d operations, is out of proportion.
_MANY_POINTS = 500_000


@final
@dataclass(frozen=True)
class Auto(SolverOption):
    """Picks a solver, and leaves the rest to it; the reason is given in one line.

    ``exact`` where it is cheap (10^12 operations, and the matrix fits), or where a residual is asked for
    and the matrix fits in float64; else ``falkon`` with a ridge, ``cg`` to a residual with all centers,
    ``eigenpro4`` with p < n centers or more than 500,000 points, and ``eigenpro2``.

    Attributes:
        centers: ``all`` training points, a ``random`` subset, the means of ``kmeans``, pivots by ``rpcholesky``.
        n_centers: p; null: all, and max(1,000, n / 10) with ``falkon`` or ``eigenpro4``.
        ridge: >= 0, in the units of a mean loss; 0: interpolation, or least squares.
        tolerance: the relative residual wanted; null: predictions as good as a few epochs make them.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(Auto(), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "auto"
    centers: str | None = None
    n_centers: int | None = None
    ridge: float = 0.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_centers(self.centers, self.n_centers)
        number("ridge", self.ridge, 0)
        number("tolerance", self.tolerance, above=0, high=1, optional=True)

    @property
    def restricted(self) -> bool:
        """Whether fewer centers than points are asked for."""
        return self.n_centers is not None or self.centers not in (None, "all")

    def count_distinct(self, problem: Problem) -> int:
        """How many of the training points differ, as far as a direct solve would gain from it."""
        X, n = problem.X, len(problem.X)
        if self.restricted:
            return n
        some = torch.randperm(n, generator=problem.generator())[:_LOOKED_AT]
        if 2 * len(DistinctRows.of(X[some.to(X.device)]).first) > len(some):
            return n
        return len(problem.distinct.first)

    def choose(
        self, sizes: Sizes, limits: Limits, device: torch.device
    ) -> tuple[AnySolver, str | None]:
        solver, why = self._pick(sizes, limits)
        return solver, f"{solver.name}, since {why}"

    def _pick(self, sizes: Sizes, limits: Limits) -> tuple[AnySolver, str]:
        n = sizes.n
        rule = CenterRule(self.centers, self.n_centers, default="all")
        p = min(rule.count(n), sizes.distinct)
        operations = n * p**2 + p**3 / 3 if self.restricted else p**3 / 3
        what = "centers" if self.restricted else "of them different"
        size = f"{n:,} points" + (f" and {p:,} {what}" if p < n else "")
        takes = f"a direct solve with {size} takes {operations:.0e} operations"
        centers, n_centers, epochs, stop = self.centers, self.n_centers, self.epochs, self.stop
        exact = Exact(epochs, stop, centers, n_centers, self.ridge)
        if operations <= _FEW_OPERATIONS and matrix_fits(limits, p, torch.float32):
            return exact, f"{takes}, which is little"
        if self.tolerance is not None and matrix_fits(limits, p, torch.float64):
            return exact, f"{takes}, its matrix fits, and a residual is asked for"
        if self.ridge > 0:
            tolerance = Falkon.tolerance if self.tolerance is None else self.tolerance
            falkon = Falkon(epochs, stop, centers, n_centers, self.ridge, tolerance)
            why = "which is much; with a ridge its preconditioner is the best"
            return falkon, f"{takes}, {why}{_on(falkon, n, self.restricted)}"
        if self.restricted or n > _MANY_POINTS:
            eigenpro4 = EigenPro4(epochs, stop, centers=centers, n_centers=n_centers)
            return eigenpro4, f"{takes}, which is much{_on(eigenpro4, n, self.restricted)}"
        if self.tolerance is not None:
            cg = CG(epochs, stop, self.tolerance)
            return cg, f"a residual is asked for and the matrix of {size} does not fit"
        return EigenPro2(epochs, stop), f"{takes}, which is much"


def _on(solver: Falkon | EigenPro4, n: int, asked: bool) -> str:
    """On how many of n points as centers, where nobody has asked for so few."""
    p = solver.center_rule.count(n)
    return "" if asked or p >= n else f", on {p:,} of the points as centers (solver.n_centers)"
