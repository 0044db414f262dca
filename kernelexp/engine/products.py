"""Blocked kernel-matrix work: the one place that knows tiles and devices.

A kernel evaluation is one matrix product and a chain of elementwise steps. In tiles that stay in
cache the chain costs little; over a whole block each step is a pass over memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kernelexp.engine.kernels import Kernel

# Rows and columns of a tile. On a CPU 1 MB of float32 and its temporaries stay in the second-level
# cache; on a GPU a tile must be large enough to fill the device.
CPU_TILE = 512
GPU_TILE = 8192
# Kept rows gathered at a time: few enough that the copy is small beside K.
_GATHERED = 256


def tile_size(device: torch.device) -> int:
    """Rows and columns of the square tiles used on ``device``."""
    return CPU_TILE if device.type == "cpu" else GPU_TILE


def ranges(length: int, step: int) -> Iterator[slice]:
    """The slices of at most ``step`` that make up ``length``."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def kernel_matrix(kernel: Kernel, X: Tensor, Z: Tensor, out: Tensor | None = None) -> Tensor:
    """K(X, Z), stored: X (n, d), Z (m, d) -> (n, m); into ``out``, in its precision, if given."""
    K = X.new_empty(len(X), len(Z)) if out is None else out
    step = tile_size(X.device)
    for rows in ranges(len(X), step):
        X_rows = X[rows].to(K.dtype)
        for columns in ranges(len(Z), step):
            K[rows, columns] = kernel(X_rows, Z[columns].to(K.dtype))
    return K


def kernel_matmul(
    kernel: Kernel, X: Tensor, Z: Tensor, W: Tensor, out: Tensor | None = None
) -> Tensor:
    """K(X, Z) @ W without storing K: X (n, d), Z (m, d), W (m, c) -> (n, c), in W's precision.

    With ``out`` (n, c) the product is added to it, in place. Memory: a few tiles.
    """
    if out is None:
        out = W.new_zeros(len(X), W.shape[1])
    step = tile_size(X.device)
    for rows in ranges(len(X), step):
        X_rows = X[rows].to(W.dtype)
        for columns in ranges(len(Z), step):
            out[rows].addmm_(kernel(X_rows, Z[columns].to(W.dtype)), W[columns])
    return out


class KernelRows:
    """K(X, Z) by rows: the first ``keep`` rows are computed once and kept, others at each call.

    Attributes:
        kept: (keep, p), of which the rows marked in ``known`` are filled.
    """

    def __init__(
        self, kernel: Kernel, X: Tensor, Z: Tensor, keep: int, dtype: torch.dtype | None = None
    ) -> None:
        """X (n, d), Z (p, d); ``dtype``: of K, that of X if left out."""
        self.kernel, self.X, self.Z = kernel, X, Z
        self.kept = X.new_empty(keep, len(Z), dtype=dtype)
        self.known = torch.zeros(keep, dtype=torch.bool, device=X.device)

    @property
    def complete(self) -> bool:
        """Whether all of K is kept, once it has been computed."""
        return len(self.kept) == len(self.X)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """K(X[rows], Z): rows (m,) -> (m, p)."""
        inside = rows < len(self.kept)
        self._learn(rows[inside])
        if self.complete:
            return self.kept[rows]
        K = self.kept.new_empty(len(rows), len(self.Z))
        K[inside] = self.kept[rows[inside]]
        K[~inside] = self._compute(rows[~inside])
        return K

    def _compute(self, rows: Tensor) -> Tensor:
        out = self.kept.new_empty(len(rows), len(self.Z))
        return kernel_matrix(self.kernel, self.X[rows], self.Z, out)

    def _learn(self, rows: Tensor) -> None:
        new, step = rows[~self.known[rows]], tile_size(rows.device)
        for part in torch.split(new, step):
            X_part = self.X[part].to(self.kept.dtype)
            for columns in ranges(len(self.Z), step):
                self.kept[part, columns] = self.kernel(X_part, self.Z[columns].to(X_part))
        self.known[new] = True

    def add_transposed_matmul(self, rows: Tensor, W: Tensor, out: Tensor) -> None:
        """Add K(X[rows], Z)^T @ W to ``out``: rows (m,), W (m, c), out (p, c)."""
        inside = rows < len(self.kept)
        self._learn(rows[inside])
        for part, W_part in zip(
            torch.split(rows[inside], _GATHERED), torch.split(W[inside], _GATHERED), strict=True
        ):
            out.addmm_(self.kept[part].mT, W_part)
        kernel_matmul(self.kernel, self.Z, self.X[rows[~inside]], W[~inside], out=out)

    def blocks(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """All of K by blocks of ``size`` rows: (rows, K(X[rows], Z)); kept ones are not copied."""
        keep = len(self.kept)
        for rows in ranges(keep, size):
            block = self.kept[rows]
            if not self.known[rows].all():
                kernel_matrix(self.kernel, self.X[rows], self.Z, block)
                self.known[rows] = True
            yield rows, block
        buffer = self.kept.new_empty(min(size, len(self.X) - keep), len(self.Z))
        for rest in ranges(len(self.X) - keep, size):
            rows = slice(keep + rest.start, keep + rest.stop)
            yield (
                rows,
                kernel_matrix(self.kernel, self.X[rows], self.Z, buffer[: rows.stop - rows.start]),
            )

    def matmul(self, W: Tensor, size: int) -> Tensor:
        """K(X, Z) @ W by blocks of ``size`` rows: (p, c) -> (n, c)."""
        out = W.new_empty(len(self.X), W.shape[1])
        for rows, K in self.blocks(size):
            torch.mm(K, W, out=out[rows])
        return out
