"""Which directions of the kernel a solver deflates, and from what it knows them.

The table of the family (SGD, EigenPro 1 and 2; EigenPro 3 and 4 deflate within the span of their centers, see
``projected_sgd``):

| deflation | e_i known from | weights of the correction on | q |
| --- | --- | --- | --- |
| ``NoDeflation`` | - | - | 0 |
| ``SubsampleDeflation`` | s points (Nystrom) | s points | asked for, or as m_max allows |
| ``AllPointsDeflation`` | Ritz vectors on all n points | n points | asked for |
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from kernelexp.engine.batch import choose_q, most_q
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.preconditioner import Preconditioner
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.spectrum import Spectrum, extend


@dataclass(frozen=True)
class Deflation(ABC):
    """What is made of the spectrum of a subsample."""

    # Whether the correction has weights on all n points, not on the subsample alone.
    on_all_points: ClassVar[bool] = False

    @abstractmethod
    def fixed_q(self, most: int) -> int | None:
        """The number of directions, at most ``most``; None where it is chosen from the spectrum."""

    @abstractmethod
    def preconditioner(
        self,
        kernel: BlockedKernel,
        X: Points,
        spectrum: Spectrum,
        m_max: int,
        most: int,
        ranks: Ranks,
        ridge: float,
    ) -> Preconditioner:
        """The correction, of at most ``most`` directions, for training points X (n, d).

        On all points its vectors have, as its features, the rows of each rank alone.
        """


@dataclass(frozen=True)
class NoDeflation(Deflation):
    """Plain SGD."""

    def fixed_q(self, most: int) -> int:
        return 0

    def preconditioner(
        self,
        kernel: BlockedKernel,
        X: Points,
        spectrum: Spectrum,
        m_max: int,
        most: int,
        ranks: Ranks,
        ridge: float,
    ) -> Preconditioner:
        return Preconditioner.from_spectrum(kernel, X, spectrum, 0, ranks, ridge)


@dataclass(frozen=True)
class SubsampleDeflation(Deflation):
    """The q top directions of the subsample, down to the eigenvalue of the next; Ma, Belkin 2019.

    Attributes:
        q: None: as many as keep m*(k_G) within m_max.
    """

    q: int | None

    def fixed_q(self, most: int) -> int | None:
        # As many directions as there are: n may be small for a q that is meant for many points.
        return None if self.q is None else min(self.q, most)

    def preconditioner(
        self,
        kernel: BlockedKernel,
        X: Points,
        spectrum: Spectrum,
        m_max: int,
        most: int,
        ranks: Ranks,
        ridge: float,
    ) -> Preconditioner:
        q = self.fixed_q(most)
        if q is None:
            q = choose_q(spectrum, m_max, ridge, len(X))
        elif (rank := most_q(spectrum)) < q:
            warnings.warn(
                f"solver.q={self.q} exceeds what the kernel has of eigenvalues above rounding: {rank} is used",
                RuntimeWarning,
                stacklevel=2,
            )
            q = rank
        return Preconditioner.from_spectrum(kernel, X, spectrum, q, ranks, ridge)


@dataclass(frozen=True)
class AllPointsDeflation(Deflation):
    """Directions known on all n points, to tau lambda_{q+1}; Ma, Belkin 2017.

    The vectors extended from the subsample are rotated to Ritz vectors of K, for which K U is computed
    once: n^2 d operations, one epoch.
    """

    on_all_points: ClassVar[bool] = True
    q: int
    tau: float

    def fixed_q(self, most: int) -> int:
        return min(self.q, most)

    def preconditioner(
        self,
        kernel: BlockedKernel,
        X: Points,
        spectrum: Spectrum,
        m_max: int,
        most: int,
        ranks: Ranks,
        ridge: float,
    ) -> Preconditioner:
        n = len(X)
        _, U = extend(kernel, X, spectrum, ranks=ranks)
        KU = kernel(ranks.own(X), X).matmul(ranks.gather(U, n))  # (n, q + 1)
        projected = ranks.all_reduce(U.mT @ KU).double()
        ritz, W = ranks.once(lambda: torch.linalg.eigh(projected))
        ritz, W = ritz.flip(0), W.flip(1)[:, :-1].to(U.dtype)
        ritz = ritz.to(U.dtype)  # n lambda_i
        deflated = (self.tau * ritz[-1] + n * ridge) / (ritz[:-1] + n * ridge)
        scales = (1 - deflated) / ritz[:-1]
        rows = torch.arange(n, device=U.device)
        top = ritz[-1].item() / n
        return Preconditioner.with_features(
            kernel, X, rows, U @ W, scales, KU @ W, top, ranks, ridge
        )
