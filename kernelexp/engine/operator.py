"""K(X, Z) as a linear operator: how much of it is stored is its own affair.

    kernel = BlockedKernel.on(KERNELS["laplacian"](bandwidth=5.0), X.device)
    K = kernel(X, Z)                # (n, p), nothing computed yet
    K.matmul(W)                     # (n, c)
    K.rows(torch.tensor([3, 7]))    # (2, p)

``TiledKernel`` stores nothing, ``KeptKernel`` its first rows; ``KernelOperator`` is all that others need of K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from kernelexp.engine.devices import Tiling, tiling
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.memory import sent
from kernelexp.engine.points import Points, as_points
from kernelexp.engine.tiles import kernel_tile, ranges, tiles, tiles_again

# The fewest kept rows that are gathered at a time, however long they are.
_FEWEST_GATHERED = 8


class KernelOperator(Protocol):
    """The kernel matrix K(X, Z), (n, p), as a linear operator.

    What is returned is the caller's, but for kept blocks: no later call overwrites it. Indices are of the
    host, else a GPU's host has to wait to know which of them are kept, or where all are of the device.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""

    @property
    def kept_rows(self) -> int:
        """How many of the first rows of K are computed once and stored."""

    @property
    def complete(self) -> bool:
        """Whether these are all of them."""

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """K[index]: index (m,) -> (m, p), in new memory, or in ``out`` (m, p)."""

    def picked(self, index: Tensor, memory: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """K[index] by pieces, for several uses while they are in cache: (part, K[index[part]]).

        Each is written into ``memory`` (m, p) over the one before: index (m,).
        """

    def entries(self, index: Tensor, columns: Tensor) -> Tensor:
        """K[index][:, columns], the caller's to overwrite: index (m,), columns (l,) -> (m, l).

        Symmetric where K is and ``columns`` is ``index``, the same object.
        """

    def blocks(self, size: int, out: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """All of K by blocks of at most ``size`` rows: (rows, K[rows]).

        Kept rows are not copied: they are to be read. Others are computed into ``out`` (size, p), each
        block over the one before, or into new memory.
        """

    def dense(self, out: Tensor | None = None) -> Tensor:
        """K, stored, (n, p): in new memory, or in ``out`` and its precision."""

    def matmul(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        """K W in W's precision: (p, c) -> (n, c); with ``out`` (n, c) it is added to that, in place."""

    def add_transposed_matmul(self, index: Tensor, W: Tensor, out: Tensor) -> None:
        """Add K[index]^T W to ``out``: index (m,), W (m, c), out (p, c) stored by columns."""


@dataclass(frozen=True, eq=False)
class TiledKernel:
    """K(X, Z) of which nothing is kept: each use computes what it needs, a tile at a time.

    Attributes:
        kernel: k.
        tiling: the pieces.
        X: (n, d).
        Z: (p, d); X itself where K is symmetric.
        dtype: of what is stored and not given by ``out``.
    """

    kernel: Kernel
    tiling: Tiling
    X: Points
    Z: Points
    dtype: torch.dtype
    kept_rows: ClassVar[int] = 0
    complete: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X), len(self.Z)

    def part(self, rows: slice | Tensor) -> TiledKernel:
        """K(X[rows], Z)."""
        return replace(self, X=self.X[rows])

    def empty(self, rows: int) -> Tensor:
        """Memory for so many rows of K."""
        return torch.empty(rows, len(self.Z), dtype=self.dtype, device=self.X.device)

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        return self.part(index).dense(out)

    def picked(self, index: Tensor, memory: Tensor) -> Iterator[tuple[slice, Tensor]]:
        yield slice(0, len(index)), self.rows(index, memory[: len(index)])

    def entries(self, index: Tensor | slice, columns: Tensor | slice) -> Tensor:
        X = self.X[index]
        symmetric = columns is index and self.Z is self.X
        return replace(self, X=X, Z=X if symmetric else self.Z[columns]).dense()

    def blocks(self, size: int, out: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        for rows in ranges(len(self.X), size):
            block = None if out is None else out[: rows.stop - rows.start]
            yield rows, self.part(rows).dense(block)

    def dense(self, out: Tensor | None = None) -> Tensor:
        """K, stored; where it is symmetric only the tiles on and above the diagonal are computed."""
        K = self.empty(len(self.X)) if out is None else out
        symmetric, size = self.Z is self.X, self.tiling.tile
        all_columns = tiles_again(self.Z, size, K)
        for rows, X_rows in tiles(self.X, size, K):
            for columns, Z_columns in all_columns(rows.start if symmetric else 0):
                tile = kernel_tile(self.kernel, X_rows, Z_columns)
                K[rows, columns] = tile
                if symmetric and columns.start > rows.start:
                    K[columns, rows] = tile.mT.contiguous()  # half the time of one strided copy
                del tile  # so that the next one gets its memory, which is in cache
        return K

    def matmul(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        out = W.new_zeros(len(self.X), W.shape[1]) if out is None else out
        symmetric, size, W_T = self.Z is self.X, self.tiling.tile, W.mT.contiguous()
        all_columns = tiles_again(self.Z, size, W)
        for rows, X_rows in tiles(self.X, size, W):
            product = W.new_zeros(W.shape[1], len(X_rows))  # transposed, see ``narrow``
            for columns, Z_columns in all_columns(rows.start if symmetric else 0):
                tile = kernel_tile(self.kernel, X_rows, Z_columns)
                product.addmm_(W_T[:, columns], tile.mT)
                if symmetric and columns.start > rows.start:  # as in ``dense``
                    out[columns].add_((W_T[:, rows] @ tile).mT)
                del tile  # as above
            out[rows].add_(product.mT)
        return out

    def add_transposed_matmul(self, index: Tensor, W: Tensor, out: Tensor) -> None:
        replace(self, X=self.Z, Z=self.X[index]).matmul(W, out)


class KeptKernel:
    """K(X, Z) whose first rows are computed once and kept, while others are at each use.

    Those that are kept are computed together, in their own order, when something is first asked for:
    half the work where all of a symmetric K is kept, and data in a file are read once from front to end.
    Their memory is taken at once.
    """

    def __init__(
        self, K: TiledKernel, keep: int, fill: Callable[[Tensor], None] | None = None
    ) -> None:
        """K (n, p), and how many of its rows are kept, at most n; ``fill`` computes these (keep, p) otherwise."""
        n, p = K.shape
        assert 0 <= keep <= n
        self.shape, self.kept_rows, self.complete = (n, p), keep, keep == n
        self._tiling = K.tiling
        self._first = K if keep == n else K.part(slice(0, keep))  # symmetric only as a whole
        self._rest = K.part(slice(keep, None))
        self._mirrored, self._computed = K.Z is K.X and keep < n, K
        self._memory, self._filled, self._fill = K.empty(keep), False, fill or self._first.dense

    @property
    def kept(self) -> Tensor:
        """The first rows of K, (kept_rows, p), to be read."""
        if not self._filled:
            self._fill(self._memory)
            self._filled = True
        return self._memory

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        kept = self.kept
        if self.complete:
            return torch.index_select(kept, 0, sent(index, kept.device), out=out)
        K = self._rest.empty(len(index)) if out is None else out
        at, others = self._split(index)
        K[sent(at, K.device)] = kept[sent(index[at], K.device)]
        K[sent(others, K.device)] = self._rest.rows(index[others] - self.kept_rows)
        return K

    def _split(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where in ``index`` rows are that are kept, and where others."""
        inside = index < self.kept_rows
        return inside.nonzero().squeeze(1), (~inside).nonzero().squeeze(1)

    def picked(self, index: Tensor, memory: Tensor) -> Iterator[tuple[slice, Tensor]]:
        if self.complete:
            yield from self._gathered(sent(index, self.kept.device), memory)
        else:
            yield slice(0, len(index)), self.rows(index, memory[: len(index)])

    def entries(self, index: Tensor, columns: Tensor) -> Tensor:
        n, d = self._computed.X.values.shape
        if not self.complete or n > self._tiling.picked * d:
            return self._computed.entries(index, columns)
        index, columns = sent(index, self.kept.device), sent(columns, self.kept.device)
        K = self.kept.new_empty(len(index), len(columns))
        for part, gathered in self._gathered(index):
            torch.index_select(gathered, 1, columns, out=K[part])
        return K

    def _gathered(
        self, index: Tensor, memory: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Kept rows by pieces, each over the one before, while they are in cache: index on their device."""
        kept = self.kept
        row_bytes = kept.element_size() * kept.shape[1]
        step = max(_FEWEST_GATHERED, self._tiling.gathered_bytes // row_bytes)
        memory = self._rest.empty(min(step, len(index))) if memory is None else memory
        for part in ranges(len(index), step):
            rows = index[part]
            yield part, torch.index_select(kept, 0, rows, out=memory[: len(rows)])

    def blocks(self, size: int, out: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        keep, kept = self.kept_rows, self.kept
        for rows in ranges(keep, size):
            yield rows, kept[rows]
        for rows, K in self._rest.blocks(size, out):
            yield slice(keep + rows.start, keep + rows.stop), K

    def dense(self, out: Tensor | None = None) -> Tensor:
        K = self._rest.empty(self.shape[0]) if out is None else out
        K[: self.kept_rows] = self.kept
        self._rest.dense(K[self.kept_rows :])
        return K

    def matmul(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        keep, kept, W_T = self.kept_rows, self.kept, W.mT.contiguous()
        if out is None:
            out = W.new_zeros(self.shape[0], W.shape[1])
        for rows in ranges(keep, self._tiling.tile):
            out[rows].add_((W_T @ kept[rows].mT).mT)
            if self._mirrored:  # what they have of the other rows
                out[keep:].add_((W_T[:, rows] @ kept[rows, keep:]).mT)
        if self._mirrored:
            replace(self._rest, Z=self._rest.X).matmul(W[keep:], out[keep:])
        elif not self.complete:
            self._rest.matmul(W, out[keep:])
        return out

    def add_transposed_matmul(self, index: Tensor, W: Tensor, out: Tensor) -> None:
        if not self.complete:
            at, others = self._split(index)
            outside = index[others] - self.kept_rows
            self._rest.add_transposed_matmul(outside, W[sent(others, W.device)], out)
            index, W = index[at], W[sent(at, W.device)]
        for part, gathered in self._gathered(sent(index, W.device)):
            out.addmm_(gathered.mT, W[part])


@dataclass(frozen=True)
class BlockedKernel:
    """A kernel and the pieces its matrices are computed in: makes the operators.

    Attributes:
        kernel: k.
        tiling: the pieces.
    """

    kernel: Kernel
    tiling: Tiling

    @classmethod
    def on(cls, kernel: Kernel, device: torch.device) -> BlockedKernel:
        """With the pieces of a device."""
        return cls(kernel, tiling(device))

    def __call__(
        self,
        X: Tensor | Points,
        Z: Tensor | Points,
        keep: int = 0,
        dtype: torch.dtype | None = None,
        fill: Callable[[Tensor], None] | None = None,
    ) -> KernelOperator:
        """K(X, Z), whose first ``keep`` rows are kept: X (n, d), Z (p, d) -> (n, p).

        It is symmetric, and then computed by halves, where Z is X, the same object. ``dtype``: of what is
        stored, else that of X; ``fill``: see ``KeptKernel``.
        """
        points = as_points(X)
        others = points if Z is X else as_points(Z)
        K = TiledKernel(self.kernel, self.tiling, points, others, dtype or points.values.dtype)
        return KeptKernel(K, keep, fill) if keep else K

    def diag(self, X: Tensor | Points) -> Tensor:
        """k(x_i, x_i): X (n, d) -> (n,)."""
        return self.kernel.diag(as_points(X).values)
