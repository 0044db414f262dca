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
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.points import Points
from kernelexp.engine.tiles import ranges

# Numbers of the factors of a tile times all outputs, those of the gradients of its rows, and rows of one at most: its
# steps are to stay in cache.
_NUMBERS, _ROWS = 1 << 22, 512
# Points that differ by this many roundings of their norm are one.
_SAME_ROUNDINGS = 32


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
    rows = max(1, min(_ROWS, _NUMBERS // (columns * c), _NUMBERS // (c * d)))
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
            G.addcmul_(both[..., None], origin)
        yield some, G.addcmul_(own[..., None], x)


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
    seen = X.to(alpha) if T is None else _at_centers(transformed(X.to(alpha), T), Z.to(alpha))
    return agop_at(kernel, Z, alpha, seen, T, centred, diagonal)


def agop_at(
    kernel: Kernel,
    Z: Tensor,
    alpha: Tensor,
    seen: Tensor,
    T: Tensor | None = None,
    centred: bool = False,
    diagonal: bool = False,
) -> Tensor:
    """``agop`` over points (n, d) as the kernel sees them, transformed already."""
    assert T is None or T.ndim == 1 or not diagonal
    d, c = seen.shape[1], alpha.shape[1]
    M = torch.zeros((d,) if diagonal else (d, d), dtype=torch.float64, device=seen.device)
    total = torch.zeros(c, d, dtype=torch.float64, device=seen.device)
    for _, G in gradients(kernel, Z, alpha, seen):
        flat = G.reshape(-1, d)
        total += G.sum(1, dtype=torch.float64)
        M += flat.square_().sum(0, dtype=M.dtype) if diagonal else (flat.mT @ flat).double()
    M /= len(seen)
    if centred:
        mean = total / len(seen)
        M -= mean.square().sum(0) if diagonal else mean.mT @ mean
    if T is None:
        return M
    root = T.double()
    if diagonal:
        return M * root.square()
    return root[:, None] * M * root if T.ndim == 1 else root @ M @ root.mT


def _at_centers(seen: Tensor, Z: Tensor) -> Tensor:
    """Points (n, d), those that are a center but for rounding as that center is, in place.

    A product of few points with a transform has other last bits than that of all, and a kernel with a corner has a
    gradient at any distance but 0.
    """
    centers = Points.of(Z)
    for some in ranges(len(seen), max(1, _NUMBERS // len(Z))):
        points = Points.of(seen[some])
        r2, nearest = squared_distances(points, centers).min(1)
        same = r2.sqrt() <= _SAME_ROUNDINGS * points.eps * points.norms
        seen[some] = torch.where(same[:, None], Z[nearest], seen[some])
    return seen


def bytes_of_agop(d: int, c: int, itemsize: int, diagonal: bool) -> int:
    """The most that ``agop`` and the root of what it finds hold, (d, d), or (d,) with ``diagonal``."""
    of_rows = 6 * itemsize * max(c * d, min(_NUMBERS, _ROWS * c * d))
    return of_rows + (2 * 8 * c * d if diagonal else 6 * 8 * d * d)


def transformed(X: Tensor, T: Tensor) -> Tensor:
    """X (n, d) in other coordinates: X T, T (d, e), or T (d,) for a diagonal one."""
    return X * T if T.ndim == 1 else X @ T
