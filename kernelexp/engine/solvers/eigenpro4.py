"""EigenPro 4: EigenPro 3 with delayed projections; Abedsoltan, Ma, Pandit, Belkin 2025."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from kernelexp.engine.batch import BatchRule, eighth_of_adapted
from kernelexp.engine.checks import number
from kernelexp.engine.solvers.projected_sgd import ProjectedSGD

# Operations of a matrix product in the time that a number of the factor takes to be read twice.
_PASS = 64
# The same of making one: times p, for p^2 of them. Of a kept entry of K(Z, Z) in an epoch of an inexact one.
_FACTOR, _INNER = 0.4, 300


@final
@dataclass(frozen=True)
class EigenPro4(ProjectedSGD):
    """EigenPro 3 that projects once in T batches, which until then are temporary centers.

    Per T batches the temporary centers cost (T m)^2 d operations and an inexact projection, one epoch
    on the centers, 2 p^2 d: alike at T m = p, whatever p is (section 4 of the paper, which has
    T = p / m*). An exact projection is a pass over the factor, worth about 64 operations a number
    whatever d is; alike at T m = p sqrt(64 / d). How it differs from the paper besides: see
    ``projected_sgd``.

    Attributes:
        projection_interval: T; null: p / m, or sqrt(64 / d) p / m where projections are exact.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(EigenPro4(n_centers=25, epochs=10), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "eigenpro4"
    projection_interval: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("projection_interval", self.projection_interval, 1, whole=True, optional=True)

    def interval(self, p: int, m: int, d: int, exact: bool) -> int:
        if self.projection_interval is not None:
            return self.projection_interval
        return max(1, round(_share(d, exact) * p / m))

    def exact_is_faster(self, n: int, p: int, d: int) -> bool:
        """By count: n / (T m) projections an epoch, temporary centers, and the factor once."""

        def epoch(exact: bool) -> float:  # a point and a center
            share = _share(d, exact)
            projection = _PASS if exact else self.projection_epochs * _INNER
            return share * d + projection / share

        saved = self.likely_epochs * n * (epoch(exact=False) - epoch(exact=True))
        return _FACTOR * p * p <= saved

    def batch_rule(self, exact: bool) -> BatchRule:
        return eighth_of_adapted


def _share(d: int, exact: bool) -> float:
    """T m / p."""
    return min(1.0, math.sqrt(_PASS / d)) if exact else 1.0
