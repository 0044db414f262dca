"""K(X, X) of which each of several ranks has the columns of its own points."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import Tensor

from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import Ranks
from kernelexp.engine.tiles import ranges

# Rows of a block that are computed and exchanged at a time.
_EXCHANGED = 1024


def square_operator(kernel: BlockedKernel, X: Points, keep: int, ranks: Ranks) -> KernelOperator:
    """K(X, X) with ``keep`` rows kept, of several ranks what each has of it: X (n, d)."""
    return kernel(X, X, keep) if ranks.alone else ColumnShard(kernel, X, keep, ranks)


class ColumnShard:
    """K(X, X_r), (n, n_r), for X_r the points of this rank: a ``KernelOperator``.

    ``entries`` alone are of all of K(X, X), on each rank. They are summed from the columns that ranks keep where
    one rank would pick them from kept rows, and computed anew by each elsewhere: on a GPU that takes less time
    than sending them.
    """

    def __init__(self, kernel: BlockedKernel, X: Points, keep: int, ranks: Ranks) -> None:
        n, d = X.values.shape
        on_cpu, fill = X.device.type == "cpu", None
        if on_cpu and keep == n:
            fill = functools.partial(_fill_by_halves, kernel, X, ranks)
        self._all, self._own = kernel(X, X), kernel(X, ranks.own(X), keep, fill=fill)
        self._ranks = ranks
        self.shape, self.kept_rows = self._own.shape, self._own.kept_rows
        self.complete = self._own.complete
        self._picks = self.complete and on_cpu and n <= kernel.tiling.picked * d

    def entries(self, index: Tensor, columns: Tensor) -> Tensor:
        if not self._picks:
            return self._all.entries(index, columns)
        n = self.shape[0]
        own = columns[self._ranks.owns(columns, n)] - self._ranks.part(n).start
        by_columns = self._own.entries(index, own).mT
        return self._ranks.assembled(by_columns, columns, n).mT

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        return self._own.rows(index, out)

    def picked(self, index: Tensor, memory: Tensor) -> Iterator[tuple[slice, Tensor]]:
        return self._own.picked(index, memory)

    def blocks(self, size: int, out: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        return self._own.blocks(size, out)

    def dense(self, out: Tensor | None = None) -> Tensor:
        return self._own.dense(out)

    def matmul(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        return self._own.matmul(W, out)

    def add_transposed_matmul(self, index: Tensor, W: Tensor, out: Tensor) -> None:
        self._own.add_transposed_matmul(index, W, out)


def _fill_by_halves(kernel: BlockedKernel, X: Points, ranks: Ranks, K: Tensor) -> None:
    """K(X, X_r) into ``K`` (n, n_r), of which this rank computes half and gets the rest from the others.

    Two ranks share the block of their points, which one has by rows and the other by columns: the lower one
    computes the first half of its own points, the higher one the rest. All pairs meet in R rounds, in each of
    which a rank has one partner. A number sent takes a CPU a tenth of the time of computing it (``docs/scaling.md``).
    """
    n, R, rank = len(X), ranks.size, ranks.rank
    part = ranks.part(n)
    own = X[part]
    kernel(own, own).dense(K[part])
    for round_ in range(R):
        other = (round_ - rank) % R
        if other == rank:
            continue
        low, high = (ranks.part(n, r) for r in sorted((rank, other)))
        middle = (low.stop - low.start) // 2
        for piece in ranges(high.stop - high.start, _EXCHANGED):
            at = slice(high.start + piece.start, high.start + piece.stop)
            if rank < other:
                mine, theirs = K[at, :middle], K[at, middle:]
                kernel(X[at], own[:middle]).dense(mine)
            else:
                mine = K[low.start + middle : low.stop, piece]
                theirs = K[low.start : low.start + middle, piece]
                kernel(X[low.start + middle : low.stop], own[piece]).dense(mine)
            theirs.copy_(ranks.exchanged(mine.contiguous(), theirs.mT.shape, other).mT)
