"""Distances and angles between two point sets, accurate also where the points (nearly) coincide.

|x - z|^2 = |x|^2 + |z|^2 - 2 x.z costs one matrix product but cancels: in float32 it is off by about
1e-6 |x|^2 at x = z, hence a distance by 1e-3 |x|, the largest error a Laplacian kernel makes. Pairs
that close are few, so they are found and computed again from the difference x - z. Where coordinates
are bytes (``points``) nothing cancels: the distance is that of integers.

Distances do not depend on the origin, so neither may their digits nor their time: points far from it,
for their spread, are first moved to one amid them. Groups far from each other have no common one, and
many pairs of a tile are then close; each group gets an origin of its own.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernelexp.engine.points import Points, fp32_products, row_norms

# Numbers gathered at a time when close pairs are computed again; a group of pairs with as many as the
# second is worth a product of its own, which takes a millisecond.
_NUMBERS_AT_A_TIME, _NUMBERS_OF_A_GROUP = 1 << 22, 1 << 20


def squared_distances(X: Points, Z: Points) -> Tensor:
    """|x_i - z_j|^2, exactly 0 where x_i = z_j: X (n, d), Z (m, d) -> (n, m)."""
    exact = X.exact_squared_distances(Z)
    if exact is not None:
        return exact
    x, z = moved_to_common_origin(X, Z)
    x_squares = x.norms.square()[:, None]  # (n, 1)
    D = x_squares + z.norms.square()  # (n, m)
    if X.precision == "ieee":
        with fp32_products("ieee", D.device):
            D.addmm_(x.values, z.values.T, alpha=-2)
    else:
        D.sub_(x.inner_products(z), alpha=2)
    close = _close_pairs(D, x_squares, X.eps)
    d = X.values.shape[1]
    if len(close[0]) * d > _NUMBERS_OF_A_GROUP:
        close = _recompute_groups(D, close, X, Z)
    # From the points as they were given: moving has rounded them.
    _recompute(D, close, lambda i, j: X.values[i] - Z.values[j], d)
    return D  # what had fallen below 0 was close


def moved_to_common_origin(X: Points, Z: Points) -> tuple[Points, Points]:
    """Both minus one vector amid Z, on a CPU only where that is far from the origin."""
    origin = Z.common_origin
    return (X, Z) if origin is None else (_moved(X, origin), _moved(Z, origin))


def _moved(X: Points, origin: Tensor) -> Points:
    values = X.values - origin
    return Points(values, X.precision, known_norms=row_norms(values))


def close_share(eps: float) -> float:
    """Squared distances below this share of |x|^2 have lost half of their digits or more."""
    return math.sqrt(eps) / 3


def _close_pairs(D: Tensor, x_squares: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The entries i, j (k,) of D whose relative rounding error would exceed about sqrt(eps).

    ``x_squares``: |x_i|^2, (n, 1).
    """
    nothing = torch.arange(0, device=D.device)
    if not D.numel():
        return nothing, nothing
    close = close_share(eps) * x_squares
    has_close = D.amin(1, keepdim=True) < close
    if not has_close.any():
        return nothing, nothing
    rows = has_close.squeeze(1).nonzero().squeeze(1)
    local, columns = (D[rows] < close[rows]).nonzero(as_tuple=True)
    return rows[local], columns


def _recompute(
    D: Tensor,
    pairs: tuple[Tensor, Tensor],
    differences: Callable[[Tensor, Tensor], Tensor],
    d: int,
) -> None:
    """Overwrite the entries i, j of D; ``differences`` gives x_i - z_j, (k,), (k,) -> (k, d)."""
    step = max(1, _NUMBERS_AT_A_TIME // d)
    for i, j in zip(*(torch.split(index, step) for index in pairs), strict=True):
        D[i, j] = differences(i, j).square_().sum(1)


def _recompute_groups(
    D: Tensor, pairs: tuple[Tensor, Tensor], X: Points, Z: Points
) -> tuple[Tensor, Tensor]:
    """Overwrite the entries of large groups of close pairs; returns the pairs that are left."""
    left = torch.zeros_like(D, dtype=torch.bool)
    left[pairs] = True
    while True:
        columns = left[left.sum(1).argmax()].nonzero().squeeze(1)
        rows = left[:, columns[:1]].any(1).nonzero().squeeze(1)
        size = len(rows) * len(columns)
        # A group of all rows coincides: no origin is amid others and far from each of them.
        if size == D.numel() or size * X.values.shape[1] < _NUMBERS_OF_A_GROUP:
            i, j = left.nonzero(as_tuple=True)
            return i, j
        group = rows[:, None], columns
        D[group] = squared_distances(X[rows], Z[columns])
        left[group] = False


def half_angle_squares(X: Points, Z: Points) -> Tensor:
    """sin^2(theta_ij / 2) in [0, 1], theta the angle between x_i and z_j; 1/4 if one of them is zero.

    It is (1 - cos theta) / 2 = |x/|x| - z/|z||^2 / 4, and exactly 0 where x_i = z_j. From it the angle is
    known to all digits, also a small one; that of a cosine one rounding error below 1 is already 3e-4 in
    float32.
    """
    p, r = X.norms, Z.norms
    # Of points far from the origin all angles are small: directions are moved to an origin amid them.
    if Z.common_origin is None and _are_ordinary(p) and _are_ordinary(r):
        V = X.inner_products(Z).mul_((-0.5 / p)[:, None]).mul_(1 / r).add_(0.5)
        close = _close_pairs(V, torch.full_like(p, 0.25)[:, None], X.eps)
        d = X.values.shape[1]
        if len(close[0]) * d <= _NUMBERS_OF_A_GROUP:
            x, z, s, t = X.values, Z.values, 0.5 / p[:, None], 0.5 / r[:, None]
            _recompute(V, close, lambda i, j: x[i] * s[i] - z[j] * t[j], d)
            return V.clamp_(0, 1)
    return squared_distances(_directions(X), _directions(Z)).mul_(0.25).clamp_(max=1)


def _are_ordinary(norms: Tensor) -> bool:
    """Whether inner products of points with these norms neither vanish nor overflow."""
    least = math.sqrt(torch.finfo(norms.dtype).tiny) / torch.finfo(norms.dtype).eps
    return bool(((norms > least) & (norms < 1 / least)).all())


def _directions(X: Points) -> Points:
    """X / |X|, of norm 1 or, for zeros, 0."""
    norms, dtype = X.norms, X.values.dtype
    units = X.values / norms.clamp(min=torch.finfo(dtype).tiny)[:, None]
    return Points(units, X.precision, known_norms=(norms > 0).to(dtype))
