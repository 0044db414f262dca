"""EigenPro 2: SGD with a kernel adapted to the resource; Ma, Belkin 2019."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from kernelexp.engine.batch import BatchRule, least_time_of_adapted
from kernelexp.engine.checks import number
from kernelexp.engine.solvers.deflation import Deflation, SubsampleDeflation
from kernelexp.engine.solvers.full_sgd import FullSGD


@final
@dataclass(frozen=True)
class EigenPro2(FullSGD):
    """SGD on the adapted kernel k_G, whose critical batch size is as large as the resource can use.

    It goes to the same interpolating solution as SGD on k. Differs from the paper in the ways named
    in ``full_sgd`` and ``batch``: predictions are a state, the batch is m*(k_G) / 8 or less.

    Attributes:
        q: deflated directions; null: as many as keep m*(k_G) within m_max.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(EigenPro2(epochs=10), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "eigenpro2"
    # k_G(x, x) varies: on Fashion-MNIST its mean is half its maximum, and 1.5 is faster than 1.
    relaxation: ClassVar[float] = 1.5
    q: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("q", self.q, 0, whole=True, optional=True)

    @property
    def deflation(self) -> Deflation:
        return SubsampleDeflation(self.q)

    @property
    def batch_rule(self) -> BatchRule:
        return least_time_of_adapted
