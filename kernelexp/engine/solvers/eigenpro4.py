"""EigenPro 4: EigenPro 3 with delayed projections; Abedsoltan, Ma, Pandit, Belkin 2025."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernelexp.engine.checks import number
from kernelexp.engine.solvers.projected import ProjectedSGD


@dataclass(frozen=True)
class EigenPro4(ProjectedSGD):
    """EigenPro 3 that projects once in T batches, which until then are temporary centers.

    Per T batches: T m p d operations for the centers, (T m)^2 d / 2 for the temporary ones, and one
    projection, p^2 d; all three are alike at T m = p, whatever p is (section 4 of the paper, which has
    T = p / m*). How it differs from the paper: see ``solvers.projected``.

    Attributes:
        projection_interval: T; null: p / m.
    """

    name: ClassVar[str] = "eigenpro4"
    projection_interval: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("projection_interval", self.projection_interval, 1, whole=True, optional=True)

    def choose_interval(self, p: int, m: int) -> int:
        return self.projection_interval or max(1, round(p / m))
