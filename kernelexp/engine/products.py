"""Blocked kernel-matrix work: the one place that knows tiles and devices.

A kernel evaluation is one matrix product and a chain of elementwise steps. In tiles that stay in
cache the chain costs little; over a whole block each step is a pass over memory.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernelexp.engine.kernels import Kernel

# Rows and columns of a tile. On a CPU 1 MB of float32 and its temporaries stay in the second-level
# cache; on a GPU a tile must be large enough to fill the device.
CPU_TILE = 512
GPU_TILE = 8192


def tile_size(device: torch.device) -> int:
    """Rows and columns of the square tiles used on ``device``."""
    return CPU_TILE if device.type == "cpu" else GPU_TILE


def _ranges(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def kernel_matrix(kernel: Kernel, X: Tensor, Z: Tensor) -> Tensor:
    """K(X, Z), stored: X (n, d), Z (m, d) -> (n, m)."""
    K = X.new_empty(len(X), len(Z))
    step = tile_size(X.device)
    for rows in _ranges(len(X), step):
        for columns in _ranges(len(Z), step):
            K[rows, columns] = kernel(X[rows], Z[columns])
    return K


def kernel_matmul(
    kernel: Kernel, X: Tensor, Z: Tensor, W: Tensor, out: Tensor | None = None
) -> Tensor:
    """K(X, Z) @ W without storing K: X (n, d), Z (m, d), W (m, c) -> (n, c).

    With ``out`` (n, c) the product is added to it, in place. Memory: a few tiles.
    """
    if out is None:
        out = W.new_zeros(len(X), W.shape[1])
    step = tile_size(X.device)
    for rows in _ranges(len(X), step):
        for columns in _ranges(len(Z), step):
            out[rows].addmm_(kernel(X[rows], Z[columns]), W[columns])
    return out
