"""EigenPro 3: p centers, n samples, a projection after each batch; Abedsoltan, Belkin, Pandit 2023."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from kernelexp.engine.batch import BatchRule, critical_adapted, eighth_of_adapted
from kernelexp.engine.solvers.projected_sgd import ProjectedSGD


@final
@dataclass(frozen=True)
class EigenPro3(ProjectedSGD):
    """min over f in span{k(., z_j)} of sum |f(x_i) - y_i|^2, by projected preconditioned SGD.

    Algorithm 1 of the paper with a projection for each batch, m p + p^2 operations on stored kernel
    rows. How it differs from the paper: see ``projected_sgd``.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(EigenPro3(n_centers=25, epochs=10), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 2)  # sin(3) = 0.141
    0.14
    """

    name: ClassVar[str] = "eigenpro3"

    def interval(self, p: int, m: int, d: int, exact: bool) -> int:
        return 1

    def batch_rule(self, exact: bool) -> BatchRule:
        # An inexact projection costs p^2 d operations whatever the batch, m p d.
        return eighth_of_adapted if exact else critical_adapted
