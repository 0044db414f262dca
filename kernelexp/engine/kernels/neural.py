"""Kernels of infinitely wide fully connected ReLU networks of any depth.

Jacot, Gabriel, Hongler 2018 (neural tangent kernel, Theorem 1); Lee et al. 2018 (Gaussian process
kernel); the closed form of the ReLU layer is Cho, Saul 2009, eq. 6. With weight variance 2 / width in
the hidden layers and 1 / d at the input, bias standard deviation b, L = depth hidden layers:

    S_0(x, z) = x.z / d + b^2
    S_l(x, z) = sqrt(S_{l-1}(x, x) S_{l-1}(z, z)) k1(c) + b^2,  k1 = (sin t + (pi - t) cos t) / pi
    T_0 = S_0,  T_l = S_l + T_{l-1} k0(c),                      k0 = (pi - t) / pi

where c = cos t is the correlation of S_{l-1}. relu_nngp = S_L, relu_ntk = T_L.

The recursion is carried by v = sin^2(t / 2) instead of c = 1 - 2 v, so that small angles keep their digits
and k(x, x) comes out exact:  (1 - k1) / 2 = v - (sin t - t cos t) / (2 pi),  sin t = 2 sqrt(v (1 - v)).
S and T are carried in units of sqrt(S(x, x) S(z, z)), which no layer changes where b = 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.kernels.base import Kernel
from kernelexp.engine.kernels.geometry import half_angle_squares
from kernelexp.engine.points import Points, row_norms


@dataclass(frozen=True)
class ReLUNetwork(Kernel):
    """What the two kernels share: the recursion over layers.

    Raises ``ValueError`` for depth < 1 or bias < 0.
    """

    tangent: ClassVar[bool]
    depth: int = 3
    bias: float = 0.0

    def __post_init__(self) -> None:
        number("depth", self.depth, 1, whole=True)
        number("bias", self.bias, 0)

    @abstractmethod
    def _layer(self, k: Tensor, cos: Tensor, half: Tensor) -> Tensor:
        """The kernel after a layer, without b^2: from the one before, S_l, and half the angle of S_{l-1}.

        May overwrite ``k``, the others not.
        """

    def matrix(self, X: Points, Z: Points) -> Tensor:
        b2, root_d = self.bias**2, math.sqrt(X.values.shape[1])
        p, r = X.norms[:, None] / root_d, Z.norms / root_d  # sqrt of x.x / d, (n, 1) and (m,)
        v = half_angle_squares(X, Z)  # (n, m), of x.z / d
        cos = torch.rsub(v, 1, alpha=2)
        k = cos.clone()  # S_0
        if b2:
            k, v, cos, p, r = _add_bias(k, v, p, r, b2)
        for _ in range(self.depth):
            half = v.sqrt().asin_()
            sin = torch.addcmul(v, v, v, value=-1).sqrt_()  # half of it
            v.add_(sin.addcmul_(half, cos, value=-1), alpha=-1 / math.pi).clamp_(min=0)
            cos = torch.rsub(v, 1, alpha=2)
            k = self._layer(k, cos, half)
            if b2:
                k, v, cos, p, r = _add_bias(k, v, p, r, b2)
        return k.mul_(p).mul_(r)

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        """By the derivatives of the recursion with respect to w = x.z / d and u = |x|^2 / d, carried along."""
        d = X.values.shape[1]
        b2, u, q = self.bias**2, X.norms.square()[:, None] / d, Z.norms.square() / d
        v = half_angle_squares(X, Z)
        S = torch.rsub(v, 1, alpha=2).mul_((u * q).sqrt()).add_(b2)
        T, u, q = S.clone(), u + b2, q + b2
        S_w, S_u = torch.ones_like(S), torch.zeros_like(S)
        T_w, T_u = S_w.clone(), S_u.clone()
        for _ in range(self.depth):
            P = (u * q).sqrt()
            cos = (S / P).clamp_(-1, 1)
            if not b2:  # the angle of x and z is known to more digits than its cosine
                cos = torch.rsub(v, 1, alpha=2)
            sin = (1 - cos * cos).clamp_(min=0).sqrt_() if b2 else 2 * (v - v * v).sqrt_()
            k0 = cos.acos() if b2 else 2 * v.sqrt().asin_()
            k0 = k0.mul_(-1 / math.pi).add_(1)
            cos_w = S_w / P
            cos_u = S_u / P - cos / (2 * u)
            k0_cos = (1 / (math.pi * sin)).masked_fill_(sin == 0, 0)
            next_w, next_u = k0 * S_w, k0 * S_u + (P / u) * sin / (2 * math.pi)
            T_w = next_w + T_w * k0 + T * k0_cos * cos_w
            T_u = next_u + T_u * k0 + T * k0_cos * cos_u
            S_next = P * (sin / math.pi + k0 * cos) + b2
            T = S_next + T * k0
            S, S_w, S_u, u, q = S_next, next_w, next_u, u + b2, q + b2
            if not b2:
                v = (1 - S / P).mul_(0.5).clamp_(0, 1)
        w, own = (T_w, T_u) if self.tangent else (S_w, S_u)
        nowhere = u * q == 0  # without a bias a row of zeros has no angle
        return (w / d).masked_fill_(nowhere, 0), (2 * own / d).masked_fill_(nowhere, 0)

    def _input_variance(self, X: Tensor) -> Tensor:
        """S_0(x, x), (n,)."""
        return row_norms(X).square_().mul_(1 / X.shape[1]).add_(self.bias**2)


def _add_bias(
    k: Tensor, v: Tensor, p: Tensor, r: Tensor, b2: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Kernel, v, 1 - 2 v and norms of S + b^2 from those of S, free of cancellation.

    With P and N the products of norms before and after, k becomes (P k + b^2) / N and v becomes
    ((N - P - b^2) / 2 + P v) / N, where N - P - b^2 = b^2 (p - r)^2 / (N + P + b^2), exactly 0 at p = r.
    """
    P = p * r
    p_next, r_next = (p * p + b2).sqrt_(), (r * r + b2).sqrt_()
    N = p_next * r_next
    gap = (p - r).square_().mul_(0.5 * b2).div_(N + P + b2)
    v = gap.addcmul_(P, v).div_(N)
    # A new k: it may be the cosine.
    return (k * P).add_(b2).div_(N), v, torch.rsub(v, 1, alpha=2), p_next, r_next


@dataclass(frozen=True)
class ReLUNNGP(ReLUNetwork):
    """relu_nngp: S_L of the recursion in this module; k(x, x) = |x|^2 / d + (L + 1) b^2.

    >>> X = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # |x|^2 / d = 2 and 1 / 2, a right angle
    >>> ReLUNNGP(depth=1)(X, X)  # off the diagonal sqrt(2 / 2) k1(0) = 1 / pi
    tensor([[2.0000, 0.3183],
            [0.3183, 0.5000]])
    """

    name: ClassVar[str] = "relu_nngp"
    tangent: ClassVar[bool] = False

    def _layer(self, k: Tensor, cos: Tensor, half: Tensor) -> Tensor:
        return cos

    def diag(self, X: Tensor) -> Tensor:
        return self._input_variance(X).add_(self.depth * self.bias**2)


@dataclass(frozen=True)
class ReLUNTK(ReLUNetwork):
    """relu_ntk: T_L of the recursion; k(x, x) = (L + 1) S_0(x, x) + L (L + 1) b^2 / 2.

    >>> X = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # |x|^2 / d = 2 and 1 / 2, a right angle
    >>> ReLUNTK(depth=1)(X, X)  # off the diagonal as relu_nngp, since T_0 = 0 there
    tensor([[4.0000, 0.3183],
            [0.3183, 1.0000]])
    """

    name: ClassVar[str] = "relu_ntk"
    tangent: ClassVar[bool] = True

    def _layer(self, k: Tensor, cos: Tensor, half: Tensor) -> Tensor:
        return k.addcmul_(k, half, value=-2 / math.pi).add_(cos)

    def diag(self, X: Tensor) -> Tensor:
        L = self.depth
        S0 = self._input_variance(X)
        return S0.mul_(L + 1).add_(L * (L + 1) / 2 * self.bias**2)
