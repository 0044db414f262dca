"""Kernels of the inner product x.z."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kernelexp.engine.checks import number, refuse
from kernelexp.engine.kernels.base import Kernel
from kernelexp.engine.kernels.geometry import half_angle_squares
from kernelexp.engine.points import Points, row_norms


@dataclass(frozen=True)
class Linear(Kernel):
    """k = x.z + bias, bias >= 0.

    >>> X, Z = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])  # x.z = 11
    >>> Linear(bias=1.0)(X, Z)
    tensor([[12.]])
    """

    name: ClassVar[str] = "linear"
    bias: float = 0.0

    def __post_init__(self) -> None:
        number("bias", self.bias, 0)

    def matrix(self, X: Points, Z: Points) -> Tensor:
        return X.inner_products(Z).add_(self.bias)

    def diag(self, X: Tensor) -> Tensor:
        return row_norms(X).square_().add_(self.bias)

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        a = X.values.new_ones(len(X), len(Z))
        return a, torch.zeros_like(a)


@dataclass(frozen=True)
class Polynomial(Kernel):
    """k = (gamma x.z + bias)^degree, gamma > 0 (null: 1 / d), bias >= 0, degree 1, 2, 3, ...

    >>> X, Z = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])  # x.z = 11
    >>> Polynomial(degree=2, gamma=1.0, bias=1.0)(X, Z)  # 12^2
    tensor([[144.]])
    """

    name: ClassVar[str] = "polynomial"
    degree: int = 3
    gamma: float | None = None
    bias: float = 1.0

    def __post_init__(self) -> None:
        number("degree", self.degree, 1, whole=True)
        number("gamma", self.gamma, above=0, optional=True)
        number("bias", self.bias, 0)

    def _power(self, products: Tensor, d: int) -> Tensor:
        gamma = 1 / d if self.gamma is None else self.gamma
        return products.mul_(gamma).add_(self.bias).pow_(self.degree)

    def matrix(self, X: Points, Z: Points) -> Tensor:
        return self._power(X.inner_products(Z), X.values.shape[1])

    def diag(self, X: Tensor) -> Tensor:
        return self._power(row_norms(X).square_(), X.shape[1])

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        gamma = 1 / X.values.shape[1] if self.gamma is None else self.gamma
        base = X.inner_products(Z).mul_(gamma).add_(self.bias)
        a = base.pow_(self.degree - 1).mul_(self.degree * gamma)
        return a, torch.zeros_like(a)


@dataclass(frozen=True)
class ArcCosine(Kernel):
    """Arc-cosine kernel of order 0, 1 or 2; Cho, Saul 2009, eq. 3.

    k = |x|^order |z|^order J(theta) / pi, theta the angle between x and z, with
    J = pi - theta; sin theta + (pi - theta) cos theta;
    3 sin theta cos theta + (pi - theta) (1 + 2 cos^2 theta).

    >>> X, Z = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])  # a right angle
    >>> ArcCosine(order=0)(X, Z)  # (pi - pi / 2) / pi
    tensor([[0.5000]])
    >>> ArcCosine(order=1)(X, Z)  # 2 x 3 / pi
    tensor([[1.9099]])
    """

    name: ClassVar[str] = "arc_cosine"
    order: int = 1

    def __post_init__(self) -> None:
        if self.order not in (0, 1, 2):
            raise refuse("order", self.order, "0, 1 or 2")

    def matrix(self, X: Points, Z: Points) -> Tensor:
        v = half_angle_squares(X, Z)
        rest = v.sqrt().acos_()  # (pi - theta) / 2
        if self.order == 0:
            # The direction of a zero vector is undefined; the limit from any side has |x|^0 = 1.
            return rest.mul_(2 / math.pi)
        cos = torch.rsub(v, 1, alpha=2)
        J = v.addcmul_(v, v, value=-1).sqrt_()  # (sin theta) / 2
        if self.order == 2:
            J.mul_(cos).mul_(3)
            cos = cos.square_().mul_(2).add_(1)
        J.addcmul_(rest, cos)  # J / 2
        powers = [A.norms.pow(self.order) for A in (X, Z)]
        return J.mul_(powers[0][:, None] * (2 / math.pi)).mul_(powers[1])

    def diag(self, X: Tensor) -> Tensor:
        at_zero_angle = (1.0, 1.0, 3.0)[self.order]
        return row_norms(X).pow_(2 * self.order).mul_(at_zero_angle)

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        # k is of degree ``order`` in x: x . grad k = order k, which gives b. Nothing points anywhere at an angle of 0,
        # nor from or to a row of zeros, which has no angle.
        v, p, r = half_angle_squares(X, Z), X.norms[:, None], Z.norms
        rest, cos = 2 * v.sqrt().acos_(), torch.rsub(v, 1, alpha=2)  # pi - theta
        sin = 2 * (v - v * v).sqrt_()
        if self.order == 0:
            a = (1 / (math.pi * p * r * sin)).masked_fill_(sin == 0, 0)
        elif self.order == 1:
            a = rest / math.pi
        else:
            a = (sin + rest * cos) * p * r * (4 / math.pi)
        size = p.square()
        b = (self.order * self.matrix(X, Z) - a * (p * r * cos)) / size
        nowhere = size * r == 0
        return a.masked_fill_(nowhere, 0), b.masked_fill_(nowhere, 0)
