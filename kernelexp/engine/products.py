"""Blocked kernel-matrix work: the one place that knows tiles and devices.

A kernel evaluation is one matrix product and a chain of elementwise steps. In tiles that stay in
cache the chain costs little; over a whole block each step is a pass over memory. On a GPU the chain is
one step (``fused``). Points that stay on the host, since they exceed the GPU's memory or lie in a
mapped file, are copied tile by tile, the next one while the last one is used.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.points import Points, as_points

# Rows and columns of a tile. On a CPU 1 MB of float32 and its temporaries stay in the second-level
# cache; on a GPU a tile must be large enough to fill the device.
CPU_TILE = 512
GPU_TILE = 8192
# Bytes of kept rows gathered at a time: the copy must still be in cache when it is multiplied.
_GATHERED = 6_000_000


def tile_size(device: torch.device) -> int:
    """Rows and columns of the square tiles used on ``device``."""
    return CPU_TILE if device.type == "cpu" else GPU_TILE


def ranges(length: int, step: int) -> Iterator[slice]:
    """The slices of at most ``step`` that make up ``length``."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream for copies to a GPU: one, since memory that was freed is kept for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _tiles(points: Points, like: Tensor) -> Iterator[tuple[slice, Points]]:
    """The tiles of points, in the type and on the device of ``like``: (rows, points)."""
    parts = ranges(len(points), tile_size(like.device))
    if points.values.device == like.device:
        yield from ((rows, points[rows].to(like.dtype, like.device)) for rows in parts)
        return
    copying = _copying(like.device)

    def copy(rows: slice) -> tuple[slice, Points, torch.cuda.Event]:
        part = points[rows]
        with torch.cuda.stream(copying):
            if not part.values.is_pinned():
                part = replace(part, values=part.values.pin_memory())
            return rows, part.to(like.dtype, like.device), copying.record_event()

    copies = map(copy, parts)
    ahead = next(copies, None)
    while ahead is not None:
        rows, tile, copied = ahead
        ahead = next(copies, None)  # on its way while this one is used
        working = torch.cuda.current_stream(like.device)
        working.wait_event(copied)
        tile.values.record_stream(working)  # its memory is not given away while it is used
        yield rows, tile


@functools.cache
def _fused(device: torch.device) -> ModuleType | None:
    """The module of the Triton kernel where it runs on ``device``: one tile shows it, once.

    Triton builds its launcher with a C compiler and the headers of Python, and either can be missing.
    """
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from kernelexp.engine import fused  # Triton takes half a second to import

    point = Points(torch.zeros(1, 1, device=device))
    try:
        fused.matrix(KERNELS["gaussian"](), point, point)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        warnings.warn(
            "Triton cannot build its kernel here, so kernel values are computed step by step, which is "
            f"slower; it needs a C compiler and Python's headers ({type(error).__name__}: {reason[-1]})",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return fused


def _matrix(kernel: Kernel, X: Points, Z: Points) -> Tensor:
    """K of a tile."""
    fused = _fused(X.values.device)
    if fused is not None and fused.serves(kernel, X):
        K: Tensor = fused.matrix(kernel, X, Z)
        return K
    return kernel.matrix(X, Z)


def narrow_matmul(K: Tensor, W: Tensor) -> Tensor:
    """K @ W for W of few columns, as (W^T K^T)^T: (n, m), (m, c) -> (n, c), stored by columns.

    BLAS cuts the first factor's rows into pieces; with c = 10 columns it is three times faster where
    c, not n, is what is left over.
    """
    return (W.mT.contiguous() @ K.mT).mT


def kernel_matrix(
    kernel: Kernel, X: Tensor | Points, Z: Tensor | Points, out: Tensor | None = None
) -> Tensor:
    """K(X, Z), stored: X (n, d), Z (m, d) -> (n, m); into ``out``, in its precision, if given.

    Where Z is X itself only the tiles on and above the diagonal are computed.
    """
    same = Z is X
    X = as_points(X)
    Z = X if same else as_points(Z)
    K = out
    if K is None:
        K = torch.empty(len(X), len(Z), dtype=X.values.dtype, device=X.device)
    for rows, X_rows in _tiles(X, K):
        left = rows.start if same else 0
        for part, Z_columns in _tiles(Z[slice(left, None)], K):
            columns = slice(left + part.start, left + part.stop)
            tile = _matrix(kernel, X_rows, Z_columns)
            K[rows, columns] = tile
            if same and columns.start > rows.start:
                K[columns, rows] = tile.mT.contiguous()  # half the time of one strided copy
            del tile  # so that the next one gets its memory, which is in cache
    return K


def kernel_matmul(
    kernel: Kernel,
    X: Tensor | Points,
    Z: Tensor | Points,
    W: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """K(X, Z) @ W without storing K: X (n, d), Z (m, d), W (m, c) -> (n, c), in W's precision.

    With ``out`` (n, c) the product is added to it, in place. Memory: a few tiles.
    """
    X, Z = as_points(X), as_points(Z)
    if out is None:
        out = W.new_zeros(len(X), W.shape[1])
    W_T = W.mT.contiguous()
    for rows, X_rows in _tiles(X, W):
        product = W.new_zeros(W.shape[1], len(X_rows))  # transposed, see ``narrow_matmul``
        for columns, Z_columns in _tiles(Z, W):
            tile = _matrix(kernel, X_rows, Z_columns)
            product.addmm_(W_T[:, columns], tile.mT)
            del tile  # as above
        out[rows] += product.mT
    return out


class KernelRows:
    """K(X, Z) by rows: the first ``keep`` rows are computed once and kept, others at each call.

    Those that are kept are computed together, in their own order, when first a row is asked for:
    half the work where K is symmetric, and data in a file are read once from front to end.

    Attributes:
        kept: (keep, p), undefined until then.
    """

    def __init__(
        self,
        kernel: Kernel,
        X: Tensor | Points,
        Z: Tensor | Points,
        keep: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        """X (n, d), Z (p, d), the same object where K is symmetric; ``dtype``: of K, else X's."""
        self.kernel, self.X = kernel, as_points(X)
        self.Z = self.X if Z is X else as_points(Z)
        dtype = dtype or self.X.values.dtype
        self.kept = torch.empty(keep, len(self.Z), dtype=dtype, device=self.X.device)
        self.filled = not keep
        self.gathered = self.kept[:0]

    @property
    def complete(self) -> bool:
        """Whether all of K is kept, once it has been computed."""
        return len(self.kept) == len(self.X)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """K(X[rows], Z): rows (m,) -> (m, p), which the next call may overwrite."""
        self._fill()
        if self.complete:
            return self._gather(rows)
        K = self._buffer(len(rows))
        if not len(self.kept):
            return kernel_matrix(self.kernel, self.X[rows], self.Z, K)
        inside = rows < len(self.kept)
        K[inside] = self.kept[rows[inside]]
        outside = self.X[rows[~inside]]
        K[~inside] = kernel_matrix(
            self.kernel, outside, self.Z, K.new_empty(len(outside), len(self.Z))
        )
        return K

    def _gather(self, rows: Tensor) -> Tensor:
        return torch.index_select(self.kept, 0, rows, out=self._buffer(len(rows)))

    def _buffer(self, rows: int) -> Tensor:
        """Memory that is there: the pages of a new array can cost more than what fills them."""
        if len(self.gathered) < rows:
            self.gathered = self.kept.new_empty(rows, len(self.Z))
        return self.gathered[:rows]

    def _fill(self) -> None:
        if not self.filled:
            X = self.X if self.complete else self.X[slice(0, len(self.kept))]
            kernel_matrix(self.kernel, X, self.Z, self.kept)
            self.filled = True

    def add_transposed_matmul(self, rows: Tensor, W: Tensor, out: Tensor) -> None:
        """Add K(X[rows], Z)^T @ W to ``out``: rows (m,), W (m, c), out (p, c) stored by columns."""
        self._fill()
        if not len(self.kept):
            kernel_matmul(self.kernel, self.Z, self.X[rows], W, out=out)
            return
        if not self.complete:  # a GPU's host waits to be told which
            inside = rows < len(self.kept)
            kernel_matmul(self.kernel, self.Z, self.X[rows[~inside]], W[~inside], out=out)
            rows, W = rows[inside], W[inside]
        step = max(8, _GATHERED // (self.kept.element_size() * len(self.Z)))
        for part, W_part in zip(torch.split(rows, step), torch.split(W, step), strict=True):
            out.addmm_(self._gather(part).mT, W_part)

    def blocks(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """All of K by blocks of ``size`` rows: (rows, K(X[rows], Z)); kept ones are not copied."""
        self._fill()
        keep = len(self.kept)
        for rows in ranges(keep, size):
            yield rows, self.kept[rows]
        buffer = self.kept.new_empty(min(size, len(self.X) - keep), len(self.Z))
        for rest in ranges(len(self.X) - keep, size):
            rows = slice(keep + rest.start, keep + rest.stop)
            block = buffer[: rows.stop - rows.start]
            yield rows, kernel_matrix(self.kernel, self.X[rows], self.Z, block)

    def matmul(self, W: Tensor) -> Tensor:
        """K(X, Z) @ W: (p, c) -> (n, c)."""
        self._fill()
        keep = len(self.kept)
        out = W.new_zeros(len(self.X), W.shape[1])
        for rows in ranges(keep, tile_size(W.device)):
            out[rows] = narrow_matmul(self.kept[rows], W)
        if not self.complete:
            kernel_matmul(self.kernel, self.X[slice(keep, None)], self.Z, W, out=out[keep:])
        return out
