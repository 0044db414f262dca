"""Plain mini-batch SGD at the critical batch size of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from kernelexp.engine.batch import BatchRule, critical
from kernelexp.engine.solvers.deflation import Deflation, NoDeflation
from kernelexp.engine.solvers.full_sgd import FullSGD


@final
@dataclass(frozen=True)
class SGD(FullSGD):
    """Plain mini-batch SGD; Ma, Bassily, Belkin 2018.

    Batch m*(k); s by the least total time (``subsample``), or what memory allows.

    >>> from kernelexp.engine import KERNELS, Problem, fit
    >>> X = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> sine = Problem(KERNELS["laplacian"](bandwidth=1.0), X, torch.sin(6 * X))
    >>> f = fit(SGD(epochs=10), sine)
    >>> round(f.predict(torch.tensor([[0.5]]).double()).item(), 1)  # sin(3) = 0.141
    0.1
    """

    name: ClassVar[str] = "sgd"

    @property
    def deflation(self) -> Deflation:
        return NoDeflation()

    @property
    def batch_rule(self) -> BatchRule:
        return critical
