"""The Cholesky factor of a matrix that does not fit in memory: half of its numbers, filled and factored by panels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelexp.engine.linalg import eliminate_
from kernelexp.engine.operator import TiledKernel
from kernelexp.engine.tiles import ranges

# Columns of a panel: as wide as products need to be fast, and the width of the blocks that are factored densely.
_PANEL = 512


class PackedFactor:
    """A = S K S + shift I = L L^T, S = diag(scales): L alone is stored, n^2 / 2 numbers and not n^2.

    Panel k holds L's columns of block k from the diagonal down, (n - start of the block, 512). It is filled when its turn
    comes, and so A is nowhere whole: products with A compute K anew.

    Attributes:
        panels: of L, whose first rows are lower triangular.
        smallest_pivot: the smallest L_ii^2 / A_ii.
    """

    def __init__(self, K: TiledKernel, scales: Tensor, shift: float, zero: float) -> None:
        """Fill and factor: n^3 / 3 operations; K (n, n) symmetric, of the type of L; scales (n, 1).

        Raises:
            ValueError: where a pivot is no larger than ``zero``, as a share of its own A_ii (``CholeskyFactor``).
        """
        self.K, self.scales, self.shift = K, scales, shift
        self.panels: list[Tensor] = []
        self.smallest_pivot = math.inf
        n = len(scales)
        for k in ranges(n, _PANEL):
            self.panels.append(self._column(k, zero))

    def _column(self, k: slice, zero: float) -> Tensor:
        """The panel of the columns k, from all before it (left-looking: each panel is written once)."""
        n, b = len(self.scales), k.stop - k.start
        panel = self.K.entries(slice(k.start, n), k)
        scales = self.scales.to(panel.dtype)
        panel.mul_(scales[k.start :]).mul_(scales[k].mT).diagonal().add_(self.shift)
        diagonal = panel.diagonal().clone()
        for start, done in zip(range(0, k.start, _PANEL), self.panels, strict=True):
            rows = done[k.start - start :]
            panel.addmm_(rows, rows[:b].mT, alpha=-1)
        L, info = torch.linalg.cholesky_ex(panel[:b])
        pivots = L.diagonal().square().div_(diagonal)
        pivot = -math.inf if info.item() else pivots.min().item()
        if not pivot > zero:
            raise ValueError(
                f"the kernel matrix of {n:,} points is singular, and there is memory for its factor alone, "
                "not for a pseudo-inverse: take a ridge above 0, fewer points, more memory, solver.precision=float32 or solver=cg"
            )
        self.smallest_pivot = min(self.smallest_pivot, pivot)
        panel[:b] = L
        eliminate_(L, panel[b:])
        return panel

    def solve(self, B: Tensor) -> Tensor:
        """A^-1 B: (n, c) -> (n, c), in the precision of L."""
        X, blocks = B.clone(), list(ranges(len(B), _PANEL))
        for k, panel in zip(blocks, self.panels, strict=True):
            b = k.stop - k.start
            X[k] = torch.linalg.solve_triangular(panel[:b], X[k], upper=False)
            X[k.stop :].addmm_(panel[b:], X[k], alpha=-1)
        for k, panel in zip(reversed(blocks), reversed(self.panels), strict=True):
            b = k.stop - k.start
            X[k].addmm_(panel[b:].mT, X[k.stop :], alpha=-1)
            X[k] = torch.linalg.solve_triangular(panel[:b].mT, X[k], upper=True)
        return X

    def matmul(self, W: Tensor) -> Tensor:
        """A W: (n, c) -> (n, c), summed in W's precision; n^2 entries of the kernel."""
        scales = self.scales.to(W.dtype)
        return self.K.matmul(scales * W).mul_(scales).add_(W, alpha=self.shift)

    def product(self, W: Tensor) -> Tensor:
        """L L^T W, A W up to rounding, without the kernel: (n, c) -> (n, c), in the precision of L."""
        out, blocks = torch.zeros_like(W), list(ranges(len(W), _PANEL))
        for k, panel in zip(blocks, self.panels, strict=True):
            out[k.start :].addmm_(panel, panel.mT @ W[k.start :])
        return out
