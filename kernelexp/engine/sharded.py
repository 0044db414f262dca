"""K(X, X) of which each of several ranks has the columns of its own points."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from kernelexp.engine.memory import sent
from kernelexp.engine.operator import BlockedKernel, KernelOperator
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import Ranks


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
        self._all, self._own = kernel(X, X), kernel(X, ranks.own(X), keep)
        self._ranks, self._part = ranks, ranks.part(len(X))
        self.shape, self.kept_rows = self._own.shape, self._own.kept_rows
        self.complete = self._own.complete
        n, d = X.values.shape
        self._picks = self.complete and X.device.type == "cpu" and n <= kernel.tiling.picked * d

    def entries(self, index: Tensor, columns: Tensor) -> Tensor:
        if not self._picks:
            return self._all.entries(index, columns)
        part = self._part
        at = ((columns >= part.start) & (columns < part.stop)).nonzero().squeeze(1)
        own = self._own.entries(index, columns[at] - part.start)
        whole = own.new_zeros(len(index), len(columns))
        whole[:, sent(at, whole.device)] = own
        return self._ranks.all_reduce(whole)

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
