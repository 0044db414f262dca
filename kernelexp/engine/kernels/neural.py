"""Kernels of infinitely wide fully connected ReLU networks of any depth.

Jacot, Gabriel, Hongler 2018 (neural tangent kernel, Theorem 1); Lee et al. 2018 (Gaussian process
kernel); the closed form of the ReLU layer is Cho, Saul 2009, eq. 6. With weight variance 2 / width in
the hidden layers and 1 / d at the input, bias standard deviation b, L = depth hidden layers:

    S_0(x, z) = x.z / d + b^2
    S_l(x, z) = sqrt(S_{l-1}(x, x) S_{l-1}(z, z)) k1(c) + b^2,  k1 = (sin t + (pi - t) cos t) / pi
    T_0 = S_0,  T_l = S_l + T_{l-1} k0(c),                      k0 = (pi - t) / pi

where c = cos t is the correlation of S_{l-1}. relu_nngp = S_L, relu_ntk = T_L.

The recursion is carried by the gap u = 1 - c instead of c, so that small angles keep their digits
and k(x, x) comes out exact:  1 - k1 = u - (sin t - t cos t) / pi,  sin t = sqrt(u (2 - u)).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.kernels.base import Kernel
from kernelexp.engine.kernels.geometry import angles, cosine_gaps
from kernelexp.engine.points import Points, row_norms


@dataclass(frozen=True)
class ReLUNetwork(Kernel):
    """What the two kernels share: the recursion over layers.

    Raises ``ValueError`` for depth < 1 or bias < 0.
    """

    depth: int = 3
    bias: float = 0.0

    def __post_init__(self) -> None:
        number("depth", self.depth, 1, whole=True)
        number("bias", self.bias, 0)

    @abstractmethod
    def _layer(self, k: Tensor, S: Tensor, t: Tensor) -> Tensor:
        """The kernel after a layer, from the one before, S_l and the angle t of S_{l-1}."""

    def matrix(self, X: Points, Z: Points) -> Tensor:
        b2 = self.bias**2
        root_d = math.sqrt(X.values.shape[1])
        u = cosine_gaps(X, Z)  # (n, m), of x.z / d
        p = X.norms[:, None] / root_d  # sqrt of x.x / d (n, 1)
        r = Z.norms / root_d  # (m,)
        scale = p * r  # (n, m)
        if b2:
            u, p, r, scale = self._add_bias(u, p, r, scale, b2)
        cos = 1 - u
        k = cos * scale  # S_0
        for layer in range(self.depth):
            t = angles(u)
            sin = (2 - u).mul_(u).sqrt_()
            u = sin.addcmul_(t, cos, value=-1).mul_(-1 / math.pi).add_(u).clamp_(0, 1)
            cos = 1 - u
            S = cos * scale
            k = self._layer(k, S.add_(b2) if b2 else S, t)
            if b2 and layer + 1 < self.depth:
                u, p, r, scale = self._add_bias(u, p, r, scale, b2)
                cos = 1 - u
        return k

    def _input_variance(self, X: Tensor) -> Tensor:
        """S_0(x, x), (n,)."""
        return row_norms(X).square_().mul_(1 / X.shape[1]).add_(self.bias**2)

    @staticmethod
    def _add_bias(
        u: Tensor, p: Tensor, r: Tensor, scale: Tensor, b2: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gap and norms of S + b^2 from those of S, free of cancellation.

        The gap becomes (N - P - b^2 + P u) / N, P and N the products of norms before and after,
        and N - P - b^2 = b^2 (p - r)^2 / (N + P + b^2), exactly 0 at p = r.
        """
        p_next, r_next = (p * p + b2).sqrt_(), (r * r + b2).sqrt_()
        N = p_next * r_next
        gap = (p - r).square_().mul_(b2).div_(N + scale + b2)
        return gap.addcmul_(scale, u).div_(N), p_next, r_next, N


@dataclass(frozen=True)
class ReLUNNGP(ReLUNetwork):
    """relu_nngp: S_L of the recursion in this module; k(x, x) = |x|^2 / d + (L + 1) b^2.

    >>> X = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # |x|^2 / d = 2 and 1 / 2, a right angle
    >>> ReLUNNGP(depth=1)(X, X)  # off the diagonal sqrt(2 / 2) k1(0) = 1 / pi
    tensor([[2.0000, 0.3183],
            [0.3183, 0.5000]])
    """

    name: ClassVar[str] = "relu_nngp"

    def _layer(self, k: Tensor, S: Tensor, t: Tensor) -> Tensor:
        return S

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

    def _layer(self, k: Tensor, S: Tensor, t: Tensor) -> Tensor:
        return S.addcmul_(k, t.mul_(-1 / math.pi).add_(1))

    def diag(self, X: Tensor) -> Tensor:
        L = self.depth
        S0 = self._input_variance(X)
        return S0.mul_(L + 1).add_(L * (L + 1) / 2 * self.bias**2)
