"""Kernels of the distance r = |x - z| (Euclidean); s is their bandwidth."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kernelexp.engine.checks import number, refuse
from kernelexp.engine.kernels.distance import DistanceKernel, median_of_pairs
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.points import Points

# exp(a) = 2^(a log2 e), which takes a processor half as long.
_LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Radial(DistanceKernel):
    """k(x, z) = profile(|x - z|^2); subclasses give the profile."""

    @abstractmethod
    def profile(self, r2: Tensor) -> Tensor:
        """K as a function of r^2, any shape; may overwrite its argument."""

    @abstractmethod
    def slope(self, r2: Tensor) -> Tensor:
        """The slope dk / d(r^2), any shape; where that is infinite, at r = 0, any value. May overwrite its argument."""

    def matrix(self, X: Points, Z: Points) -> Tensor:
        return self.profile(squared_distances(X, Z))

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        # The gradient is 2 slope (x - z), which at x = z is 0, or, of a kernel with a corner there, taken for 0.
        r2 = squared_distances(X, Z)
        here = r2 == 0
        b = self.slope(r2).mul_(2).masked_fill_(here, 0)
        return -b, b

    def median_distance(self, X: Points) -> float:
        return math.sqrt(median_of_pairs(squared_distances(X, X)))


@dataclass(frozen=True)
class Gaussian(Radial):
    """k = exp(-r^2 / (2 s^2)); Belkin, Ma, Mandal 2018 use s = 5 on MNIST.

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> Gaussian(bandwidth=5.0)(X, Z)  # exp(-1/2)
    tensor([[0.6065]])
    """

    name: ClassVar[str] = "gaussian"
    bandwidth: float | str = 5.0

    def profile(self, r2: Tensor) -> Tensor:
        return r2.mul_(-0.5 * _LOG2_E / self.scale**2).exp2_()

    def slope(self, r2: Tensor) -> Tensor:
        return self.profile(r2).mul_(-0.5 / self.scale**2)


@dataclass(frozen=True)
class Laplacian(Radial):
    """k = exp(-r / s), Euclidean r; Belkin, Ma, Mandal 2018 use s = 10 on MNIST.

    scikit-learn's ``laplacian_kernel`` is another one: it takes the L1 distance.

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> Laplacian(bandwidth=5.0)(X, Z)  # exp(-1)
    tensor([[0.3679]])
    """

    name: ClassVar[str] = "laplacian"

    def profile(self, r2: Tensor) -> Tensor:
        return r2.sqrt_().mul_(-_LOG2_E / self.scale).exp2_()

    def slope(self, r2: Tensor) -> Tensor:
        r = r2.sqrt()
        return self.profile(r2).div_(r).mul_(-0.5 / self.scale)


@dataclass(frozen=True)
class ExponentialPower(Radial):
    """k = exp(-(r / s)^gamma), 0 < gamma <= 2 (positive definite just there: Schoenberg 1938).

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> ExponentialPower(bandwidth=20.0, gamma=0.5)(X, Z)  # exp(-1/2)
    tensor([[0.6065]])
    """

    name: ClassVar[str] = "exponential_power"
    gamma: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        number("gamma", self.gamma, above=0, high=2)

    def profile(self, r2: Tensor) -> Tensor:
        # A power by logarithm and exponential is a third as dear; log 0 is -inf, its exponential 0.
        power = r2.log2_().mul_(self.gamma / 2).exp2_()  # r^gamma
        return power.mul_(-_LOG2_E / self.scale**self.gamma).exp2_()

    def slope(self, r2: Tensor) -> Tensor:
        power = r2.pow(self.gamma / 2 - 1)
        return self.profile(r2).mul_(power).mul_(-0.5 * self.gamma / self.scale**self.gamma)


@dataclass(frozen=True)
class Cauchy(Radial):
    """k = 1 / (1 + r^2 / s^2); Belkin, Ma, Mandal 2018.

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> Cauchy(bandwidth=5.0)(X, Z)  # 1 / (1 + 1)
    tensor([[0.5000]])
    """

    name: ClassVar[str] = "cauchy"

    def profile(self, r2: Tensor) -> Tensor:
        return r2.mul_(1 / self.scale**2).add_(1).reciprocal_()

    def slope(self, r2: Tensor) -> Tensor:
        return self.profile(r2).square_().mul_(-1 / self.scale**2)


@dataclass(frozen=True)
class RationalQuadratic(Radial):
    """k = (1 + r^2 / (2 alpha s^2))^(-alpha); Rasmussen, Williams 2006, eq. 4.19.

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> RationalQuadratic(bandwidth=5.0, alpha=0.5)(X, Z)  # (1 + 1)^(-1/2)
    tensor([[0.7071]])
    """

    name: ClassVar[str] = "rational_quadratic"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("alpha", self.alpha, above=0)

    def profile(self, r2: Tensor) -> Tensor:
        x = r2.mul_(0.5 / (self.alpha * self.scale**2))
        if self.alpha == 1:
            return x.add_(1).reciprocal_()
        # 1 + x would lose the digits of a small x, and a large alpha raises what is left.
        return x.log1p_().mul_(-self.alpha * _LOG2_E).exp2_()

    def slope(self, r2: Tensor) -> Tensor:
        base = 1 + r2 * (0.5 / (self.alpha * self.scale**2))
        return self.profile(r2).div_(base).mul_(-0.5 / self.scale**2)


@dataclass(frozen=True)
class Matern(Radial):
    """Matern kernel of smoothness nu in {0.5, 1.5, 2.5}; Rasmussen, Williams 2006, eq. 4.16-4.17.

    With a = sqrt(2 nu) r / s: exp(-a), (1 + a) exp(-a), (1 + a + a^2 / 3) exp(-a).

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> Matern(bandwidth=5.0, nu=0.5)(X, Z)  # exp(-1), the Laplacian kernel
    tensor([[0.3679]])
    >>> Matern(bandwidth=5.0, nu=1.5)(X, Z)  # (1 + sqrt 3) exp(-sqrt 3)
    tensor([[0.4834]])
    """

    name: ClassVar[str] = "matern"
    nu: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nu not in (0.5, 1.5, 2.5):
            raise refuse("nu", self.nu, "0.5, 1.5 or 2.5")

    def profile(self, r2: Tensor) -> Tensor:
        a = r2.sqrt_().mul_(math.sqrt(2 * self.nu) / self.scale)
        decay = (a * -_LOG2_E).exp2_()
        if self.nu == 0.5:
            return decay
        if self.nu == 2.5:
            a.addcmul_(a, a, value=1 / 3)
        return decay.addcmul_(a, decay)

    def slope(self, r2: Tensor) -> Tensor:
        a = r2.sqrt_().mul_(math.sqrt(2 * self.nu) / self.scale)
        decay = (a * -_LOG2_E).exp2_().mul_(-self.nu / self.scale**2)
        if self.nu == 0.5:
            return decay.div_(a)
        return decay if self.nu == 1.5 else decay.mul_(a.add_(1).mul_(1 / 3))
