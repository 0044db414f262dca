"""EigenPro 3: p centers, n samples, a projection after each batch; Abedsoltan, Belkin, Pandit 2023."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernelexp.engine.batch import default_batch_size
from kernelexp.engine.solvers.projected import ProjectedSGD


@dataclass(frozen=True)
class EigenPro3(ProjectedSGD):
    """min over f in span{k(., z_j)} of sum |f(x_i) - y_i|^2, by projected preconditioned SGD.

    Algorithm 1 of the paper with a projection for each batch, m p + p^2 operations on stored kernel
    rows. How it differs from the paper: see ``solvers.projected``.
    """

    name: ClassVar[str] = "eigenpro3"

    def choose_interval(self, p: int, m: int, d: int, exact: bool) -> int:
        return 1

    def default_batch(self, m_star: float, n: int, m_max: int, exact: bool) -> int:
        # An inexact projection costs p^2 d operations whatever the batch, m p d.
        return default_batch_size(m_star, n, m_max) if exact else max(1, min(int(m_star), n, m_max))
