"""EigenPro 1: SGD with a preconditioner on all n coordinates; Ma, Belkin 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from kernelexp.engine.batch import BatchRule, fixed
from kernelexp.engine.checks import number
from kernelexp.engine.solvers.deflation import AllPointsDeflation, Deflation
from kernelexp.engine.solvers.full_sgd import FullSGD


@final
@dataclass(frozen=True)
class EigenPro1(FullSGD):
    """SGD whose gradient loses 1 - tau lambda_{q+1} / lambda_i of its first q directions.

    P = I - sum_{i <= q} (1 - tau lambda_{q+1} / lambda_i) e_i (x) e_i in the RKHS (section 4, the
    RKHS version), e_i = sum_j U_ji k(x_j, .) / sqrt(n lambda_i) with U (n, q) the eigenvectors of K on
    all n points, where EigenPro 2 has weights on s of them: n q numbers and n q c operations a step
    more. Differs from the paper: the vectors are Ritz vectors of K (``deflation``); predictions are a
    state (``full_sgd``), so the correction of all n weights is put off to the end of the epoch.

    Attributes:
        q: deflated directions (paper: 160), fewer where the subsample has not as many.
        tau: <= 1; they are deflated to tau lambda_{q+1}.
        batch_size: m; null: 256 (paper), or n.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(EigenPro1(epochs=20, q=10), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "eigenpro1"
    q: int = 160
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("q", self.q, 1, whole=True)
        number("tau", self.tau, above=0, high=1)

    @property
    def deflation(self) -> Deflation:
        return AllPointsDeflation(self.q, self.tau)

    @property
    def batch_rule(self) -> BatchRule:
        return fixed(256)
