"""Distances and angles between two point sets, accurate also where the points (nearly) coincide.

|x - z|^2 = |x|^2 + |z|^2 - 2 x.z costs one matrix product but cancels: in float32 it is off by about
1e-6 |x|^2 at x = z, hence a distance by 1e-3 |x|, the largest error a Laplacian kernel makes. Pairs
that close are few, so they are found and computed again from the difference x - z. Where coordinates
are bytes (``points``) nothing cancels: the distance is that of integers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernelexp.engine.points import Points

# Numbers gathered at a time when close pairs are computed again.
_REPAIR_NUMBERS = 1 << 22


def squared_distances(X: Points, Z: Points) -> Tensor:
    """|x_i - z_j|^2, exactly 0 where x_i = z_j: X (n, d), Z (m, d) -> (n, m)."""
    exact = X.exact_squared_distances(Z)
    if exact is not None:
        return exact
    x, z = X.values, Z.values
    x_squares, z_squares = X.norms.square()[:, None], Z.norms.square()  # (n, 1), (m,)
    if X.precision == "ieee":
        D = torch.addmm(z_squares, x, z.T, alpha=-2).add_(x_squares)  # (n, m)
    else:
        D = X.inner_products(Z).mul_(-2).add_(z_squares).add_(x_squares)
    _repair_close_pairs(D, lambda i, j: x[i] - z[j], x.shape[1], x_squares, X.eps)
    return D.clamp_(min=0)


def close_share(eps: float) -> float:
    """Squared distances below this share of |x|^2 have lost half of their digits or more."""
    return math.sqrt(eps) / 3


def _repair_close_pairs(
    D: Tensor,
    differences: Callable[[Tensor, Tensor], Tensor],
    d: int,
    x_squares: Tensor,
    eps: float,
) -> None:
    """Overwrite the entries of D whose relative rounding error would exceed about sqrt(eps).

    ``differences`` gives x_i - z_j of pairs i, j (k,) -> (k, d); ``x_squares`` |x_i|^2, (n, 1).
    """
    if not D.numel():
        return
    close = close_share(eps) * x_squares
    rows = (D.amin(1, keepdim=True) < close).squeeze(1).nonzero().squeeze(1)
    if not len(rows):
        return
    local, columns = (D[rows] < close[rows]).nonzero(as_tuple=True)
    step = max(1, _REPAIR_NUMBERS // d)
    for part in range(0, len(local), step):
        i, j = rows[local[part : part + step]], columns[part : part + step]
        D[i, j] = differences(i, j).square_().sum(1)


def cosine_gaps(X: Points, Z: Points) -> Tensor:
    """u_ij = 1 - cos(x_i, z_j) in [0, 2], exactly 0 where x_i = z_j; 1/2 if one of them is zero.

    Computed as |x/|x| - z/|z||^2 / 2, from exact distances as (|x - z|^2 - (|x| - |z|)^2) / (2 |x| |z|).
    The gap, not the cosine, is what keeps small angles: the angle of a cosine that is one rounding
    error below 1 is already 3e-4 in float32.
    """
    D = X.exact_squared_distances(Z)
    x, z = X.values, Z.values
    p, r = X.norms[:, None], Z.norms[:, None]  # (n, 1), (m, 1)
    if D is None or not (p.all() and r.all()):
        return squared_distances(_directions(X), _directions(Z)).mul_(0.5).clamp_(max=2)
    U = D.sub_((p - r.T).square_()).div_(p * r.T)  # 2 u
    ones = torch.ones_like(p)
    _repair_close_pairs(U, lambda i, j: x[i] / p[i] - z[j] / r[j], x.shape[1], ones, X.eps)
    return U.mul_(0.5).clamp_(0, 2)


def _directions(X: Points) -> Points:
    """X / |X|, of norm 1 or, for zeros, 0."""
    norms, dtype = X.norms, X.values.dtype
    units = X.values / norms.clamp(min=torch.finfo(dtype).tiny)[:, None]
    return Points(units, X.precision, known_norms=(norms > 0).to(dtype))


def angles(gaps: Tensor) -> Tensor:
    """Theta = arccos(1 - u) = 2 arcsin(sqrt(u / 2)), accurate for small angles: any shape."""
    return (gaps * 0.5).sqrt_().asin_().mul_(2)
