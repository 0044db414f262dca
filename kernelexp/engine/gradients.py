"""Gradients of a kernel machine and their average outer product, in closed form, tile by tile.

    grad f_c(x) = sum_j alpha_jc (a_j(x) z_j + b_j(x) x)                 (Kernel.gradient_factors)
    AGOP = (1/n) sum_i sum_c grad f_c(x_i) grad f_c(x_i)^T               (Radhakrishnan et al. 2024, eq. 3)

A tile of factors is used for all outputs at once: n p d c operations for the products beside what the factors take, and
n c d^2 for the outer products. Of points far from the origin the two terms cancel where k is a function of x - z; there they
are taken from an origin o amid the centers: a (z - o) + b (x - o) + (a + b) o, whose last term is then exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kernelexp.engine.devices import tiling
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.points import Points
from kernelexp.engine.tiles import ranges

# Numbers of the factors of a tile times all outputs, and rows of one at most: its steps are to stay in cache.
_NUMBERS, _ROWS = 1 << 22, 512


def gradients(
    kernel: Kernel, Z: Tensor, alpha: Tensor, X: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The gradients at points X (n, d) of f with centers Z (p, d) and weights alpha (p, c), by parts.

    Yields rows and (c, rows, d), in the type of the weights.

    Raises:
        NotImplementedError: for a kernel without gradients in closed form.
    """
    Z = Z.to(alpha.device)
    (p, c), d = alpha.shape, Z.shape[1]
    centers = Points.of(Z)
    origin = centers.common_origin
    columns = min(p, tiling(alpha.device).tile)
    rows = max(1, min(_ROWS, _NUMBERS // (columns * c)))
    for some in ranges(len(X), rows):
        x = X[some].to(alpha)
        points = Points.of(x)
        own, both = x.new_zeros(2, c, len(x))
        others = x.new_zeros(c * len(x), d)
        for part in ranges(p, columns):
            a, b = kernel.gradient_factors(points, centers[part])
            z = Z[part]
            own += alpha[part].mT @ b.mT
            if origin is not None:
                z = z - origin
                both += alpha[part].mT @ (a + b).mT
            others += (a * alpha[part].mT[:, None, :]).reshape(c * len(x), -1) @ z
        G = others.reshape(c, len(x), d)
        if origin is not None:
            x = x - origin
            G += both[..., None] * origin
        yield some, G + own[..., None] * x


def agop(
    kernel: Kernel,
    Z: Tensor,
    alpha: Tensor,
    X: Tensor,
    T: Tensor | None = None,
    centred: bool = False,
    diagonal: bool = False,
) -> Tensor:
    """The average gradient outer product of f over points X (n, d): (d, d), or with ``diagonal`` that alone, (d,), float64.

    ``T``: what transforms points before the kernel sees them, see ``transformed``; gradients are in the coordinates
    before; (d,) with ``diagonal``. ``centred``: of gradients less their mean over the points, of each output.
    """
    assert T is None or T.ndim == 1 or not diagonal
    seen = X.to(alpha) if T is None else transformed(X.to(alpha), T)
    d, c = seen.shape[1], alpha.shape[1]
    M = torch.zeros((d,) if diagonal else (d, d), dtype=torch.float64, device=seen.device)
    total = torch.zeros(c, d, dtype=torch.float64, device=seen.device)
    for _, G in gradients(kernel, Z, alpha, seen):
        flat = G.reshape(-1, d)
        total += G.sum(1, dtype=torch.float64)
        M += flat.square_().sum(0, dtype=M.dtype) if diagonal else (flat.mT @ flat).double()
    M /= len(X)
    if centred:
        mean = total / len(X)
        M -= mean.square().sum(0) if diagonal else mean.mT @ mean
    if T is None:
        return M
    root = T.double()
    if diagonal:
        return M * root.square()
    return root[:, None] * M * root if T.ndim == 1 else root @ M @ root.mT


def transformed(X: Tensor, T: Tensor) -> Tensor:
    """X (n, d) in other coordinates: X T, T (d, e), or T (d,) for a diagonal one."""
    return X * T if T.ndim == 1 else X @ T
