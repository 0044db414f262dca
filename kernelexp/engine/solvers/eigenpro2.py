"""EigenPro 2: SGD with a kernel adapted to the resource; Ma, Belkin 2019."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernelexp.engine.batch import default_batch_size
from kernelexp.engine.checks import number
from kernelexp.engine.solvers.problem import Problem
from kernelexp.engine.solvers.sgd import SGD, SGDState


@dataclass(frozen=True)
class EigenPro2(SGD):
    """SGD on the adapted kernel k_G, whose critical batch size is as large as the resource can use.

    It goes to the same interpolating solution as SGD on k. Differs from the paper in the ways named
    in ``solvers.sgd`` and ``batch``: predictions are a state, the batch is m*(k_G) / 8.

    Attributes:
        q: directions taken down; null: as many as keep m*(k_G) within m_max.
    """

    name: ClassVar[str] = "eigenpro2"
    # k_G(x, x) varies: on Fashion-MNIST its mean is half its maximum, and 1.5 is faster than 1.
    relaxation: ClassVar[float] = 1.5
    q: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("q", self.q, 0, whole=True, optional=True)

    def fixed_q(self, problem: Problem) -> int | None:
        # As many directions as there are: n may be small for a q that is meant for many points.
        most = (self.subsample_size or len(problem.X)) - 1
        return None if self.q is None else min(self.q, most)

    def default_batch(self, state: SGDState) -> int:
        n = len(state.problem.X)
        return default_batch_size(state.m_star_adapted, n, state.plan.max_batch_size)
