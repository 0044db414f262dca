"""What follows the inner products of a tile on a GPU, as one Triton kernel: one pass, in place.

cuBLAS forms the inner products G = X Z^T in any precision; the kernel turns each entry of G into the
kernel's value. Distance, clamp, root, scale and exponential stay in registers, as do all layers of
relu_ntk. Close pairs, whose distance cancels (``kernels.geometry``), are found and computed again from
x - z inside the tile they are in, so that nothing waits for the host to be told where they are.

A kernel is here with a profile; one without is evaluated step by step (``Kernel.matrix``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.kernels.geometry import close_share, moved_to_common_origin
from kernelexp.engine.points import Points

# Entries of G that one program holds; relu networks hold ten numbers for each in registers.
_ROWS, _COLUMNS = tl.constexpr(16), tl.constexpr(64)
_PI = tl.constexpr(math.pi)


@triton.jit
def _gaussian(v, p, r, a, b, order: tl.constexpr):
    return tl.exp(v * a)


@triton.jit
def _laplacian(v, p, r, a, b, order: tl.constexpr):
    return tl.exp(tl.sqrt(v) * a)


@triton.jit
def _exponential_power(v, p, r, a, b, order: tl.constexpr):
    return tl.exp(-tl.exp2(tl.log2(v * a) * b))  # log2 of 0 is -inf, and exp2 of that 0


@triton.jit
def _cauchy(v, p, r, a, b, order: tl.constexpr):
    return 1 / (1 + v * a)


@triton.jit
def _rational_quadratic(v, p, r, a, b, order: tl.constexpr):
    # log(1 + x) = log(w) x / (w - 1) with w = 1 + x rounded: what w lost, the quotient gives back.
    x = v * a
    w = 1 + x
    lost = w == 1
    log1p = tl.where(lost, x, tl.log(w) * x / tl.where(lost, 1.0, w - 1))
    return tl.exp(log1p * b)


@triton.jit
def _matern(v, p, r, a, b, order: tl.constexpr):
    s = tl.sqrt(v) * a
    k = tl.exp(-s)
    if order == 1:
        k *= 1 + s
    if order == 2:
        k *= 1 + s + s * s / 3
    return k


@triton.jit
def _polynomial(v, p, r, a, b, order: tl.constexpr):
    base = v * a + b
    k = base
    for _ in tl.static_range(order - 1):
        k *= base
    return k


@triton.jit
def _arcsine(y):
    """asin(sqrt(y)) for y in [0, 1]: an odd polynomial up to asin(1/2), a half-angle step beyond."""
    beyond = y > 0.25
    # A GPU's root is off by a rounding; no negative number may come of it, here and below.
    w = tl.where(beyond, tl.maximum(0.5 - 0.5 * tl.sqrt(y), 0.0), y)
    # Least squares for asin(sqrt(w)) / sqrt(w) at Chebyshev nodes of [0, 1/4]; off by 5e-9 at most.
    series = 0.04255359911621781 * w + 0.02390936358458475
    series = series * w + 0.04553900971422992
    series = series * w + 0.0749453426934782
    series = series * w + 0.16666787011719675
    series = series * w + 0.9999999957384343
    h = tl.sqrt(w) * series
    return tl.where(beyond, 0.5 * _PI - 2 * h, h)


@triton.jit
def _arc_cosine(u, p, r, a, b, order: tl.constexpr):
    theta = 2 * _arcsine(0.5 * u)
    cos = 1 - u
    sin = tl.sqrt(u * (2 - u))
    if order == 0:
        k = _PI - theta
    elif order == 1:
        k = (sin + (_PI - theta) * cos) * (p * r)
    else:
        k = (3 * sin * cos + (_PI - theta) * (1 + 2 * cos * cos)) * (p * p) * (r * r)
    return k / _PI


@triton.jit
def _relu_network(u, p, r, b2, order: tl.constexpr, tangent: tl.constexpr):
    """``kernels.neural``: p, r are |x| / sqrt(d), b2 is the squared bias."""
    scale = p * r
    k, theta = u * 0, u  # there is no layer before the first
    for layer in tl.static_range(order + 1):
        p_next, r_next = tl.sqrt(p * p + b2), tl.sqrt(r * r + b2)
        N = p_next * r_next
        gap = b2 * (p - r) * (p - r) / (N + scale + b2)
        u = tl.minimum(tl.where(b2 > 0, (gap + scale * u) / N, u), 2.0)
        p, r, scale = p_next, r_next, N
        S = (1 - u) * scale
        k = S + k * (1 - theta / _PI) if tangent else S
        if layer < order:
            theta = 2 * _arcsine(0.5 * u)
            u -= (tl.sqrt(u * (2 - u)) - theta * (1 - u)) / _PI
            u = tl.minimum(tl.maximum(u, 0.0), 1.0)
    return k


@triton.jit
def _relu_nngp(u, p, r, a, b, order: tl.constexpr):
    return _relu_network(u, p * b, r * b, a, order, False)


@triton.jit
def _relu_ntk(u, p, r, a, b, order: tl.constexpr):
    return _relu_network(u, p * b, r * b, a, order, True)


# Compiled for a width m that 16 divides, which its loads and stores can use, and for any other; not anew for
# each n, d and place in memory of a slice that happen to be divisible.
@triton.jit(
    do_not_specialize=["n", "d"],
    do_not_specialize_on_alignment=["X", "Z", "x_norms", "z_norms"],
)
def _finish(
    G,  # (n, m) inner products in, values of the kernel out
    X,  # (n, d)
    Z,  # (m, d)
    x_norms,  # (n,)
    z_norms,  # (m,)
    n,
    m,
    d,
    a,
    b,
    close,
    profile: tl.constexpr,
    order: tl.constexpr,
    geometry: tl.constexpr,
):
    """One tile of ``_ROWS`` x ``_COLUMNS``; ``geometry`` says of what a profile is a function."""
    rows = tl.program_id(0) * _ROWS + tl.arange(0, _ROWS)
    columns = tl.program_id(1) * _COLUMNS + tl.arange(0, _COLUMNS)
    in_X, in_Z = rows < n, columns < m
    at = rows.to(tl.int64)[:, None] * m + columns[None, :]
    inside = in_X[:, None] & in_Z[None, :]
    v = tl.load(G + at, mask=inside, other=0.0)
    p = tl.load(x_norms + rows, mask=in_X, other=1.0)[:, None]
    r = tl.load(z_norms + columns, mask=in_Z, other=1.0)[None, :]
    if geometry != "products":
        # Distances of x and z, or of their directions; a zero vector has none and stays zero.
        x_factor, z_factor = tl.full(p.shape, 1.0, tl.float32), tl.full(r.shape, 1.0, tl.float32)
        if geometry == "gaps":
            x_factor = tl.where(p > 0, 1 / p, 0.0)
            z_factor = tl.where(r > 0, 1 / r, 0.0)
        p_unit, r_unit = p * x_factor, r * z_factor
        v = p_unit * p_unit + r_unit * r_unit - 2 * v * x_factor * z_factor
        near = inside & (v < close * p_unit * p_unit)
        if tl.max(tl.max(near.to(tl.int32), axis=1), axis=0) > 0:
            exact = tl.zeros_like(v)
            for k in range(d):
                x = tl.load(X + rows.to(tl.int64) * d + k, mask=in_X, other=0.0)[:, None]
                z = tl.load(Z + columns.to(tl.int64) * d + k, mask=in_Z, other=0.0)[None, :]
                difference = x * x_factor - z * z_factor
                exact += difference * difference
            v = tl.where(near, exact, v)
        v = tl.maximum(v, 0.0)
        if geometry == "gaps":
            v = tl.minimum(0.5 * v, 2.0)
    tl.store(G + at, profile(v, p, r, a, b, order), mask=inside)


@dataclass(frozen=True)
class _Profile:
    """How a kernel's values follow from ``geometry``: products x.z, distances r^2 or gaps 1 - cos."""

    function: Any
    geometry: str
    parameters: Callable[[Any, int], tuple[float, float, int]]  # of (kernel, d): a, b, order


_PROFILES: dict[str, _Profile] = {
    "gaussian": _Profile(_gaussian, "distances", lambda k, d: (-0.5 / k.scale**2, 0.0, 0)),
    "laplacian": _Profile(_laplacian, "distances", lambda k, d: (-1 / k.scale, 0.0, 0)),
    "exponential_power": _Profile(
        _exponential_power, "distances", lambda k, d: (1 / k.scale**2, k.gamma / 2, 0)
    ),
    "cauchy": _Profile(_cauchy, "distances", lambda k, d: (1 / k.scale**2, 0.0, 0)),
    "rational_quadratic": _Profile(
        _rational_quadratic, "distances", lambda k, d: (0.5 / (k.alpha * k.scale**2), -k.alpha, 0)
    ),
    "matern": _Profile(
        _matern, "distances", lambda k, d: (math.sqrt(2 * k.nu) / k.scale, 0.0, int(k.nu))
    ),
    "polynomial": _Profile(
        _polynomial, "products", lambda k, d: (k.gamma or 1 / d, k.bias, k.degree)
    ),
    "arc_cosine": _Profile(_arc_cosine, "gaps", lambda k, d: (0.0, 0.0, k.order)),
    "relu_nngp": _Profile(_relu_nngp, "gaps", lambda k, d: (k.bias**2, d**-0.5, k.depth)),
    "relu_ntk": _Profile(_relu_ntk, "gaps", lambda k, d: (k.bias**2, d**-0.5, k.depth)),
}


def serves(kernel: Kernel, X: Points) -> bool:
    """Whether there is a profile for this kernel and these points: float32 ones."""
    known = type(kernel) is KERNELS.get(getattr(kernel, "name", "")) and kernel.name in _PROFILES
    return known and X.values.dtype == torch.float32


def matrix(kernel: Kernel, X: Points, Z: Points) -> Tensor:
    """K(X, Z) of points on one device: (n, d), (m, d) -> (n, m), as ``kernel.matrix`` to rounding."""
    x, z = X, Z
    # Bytes have an origin of their own, and products that are exact there.
    if _PROFILES[kernel.name].geometry == "distances" and not X.is_exact_with(Z):
        x, z = moved_to_common_origin(X, Z)
        # Close pairs are computed again from the points as they were given.
        X, Z = replace(X, known_norms=x.norms), replace(Z, known_norms=z.norms)
    return finish_(kernel, x.inner_products(z), X, Z)


def finish_(kernel: Kernel, G: Tensor, X: Points, Z: Points) -> Tensor:
    """Turn inner products G (n, m), contiguous, into K(X, Z), in place.

    The norms of X and Z are those of the vectors multiplied; of ``values`` only differences are taken
    where distances are, and directions else.
    """
    profile = _PROFILES[kernel.name]
    (n, m), d = G.shape, X.values.shape[1]
    a, b, order = profile.parameters(kernel, d)
    x, z = X.values.contiguous(), Z.values.contiguous()
    grid = (triton.cdiv(n, _ROWS.value), triton.cdiv(m, _COLUMNS.value))
    close = close_share(X.eps)
    with torch.cuda.device_of(G):  # Triton launches where the current device is
        _finish[grid](
            *(G, x, z, X.norms, Z.norms, n, m, d, a, b, close),
            *(profile.function, order, profile.geometry),
        )
    return G
