"""What every kernel is: a small frozen object, a pure function of two point sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Kernel(ABC):
    """A positive semidefinite function k(x, z) on R^d.

    A subclass is a frozen dataclass of its parameters. It knows no blocks, devices or state: those
    belong to ``engine.products``, which calls it on tiles.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, X: Tensor, Z: Tensor) -> Tensor:
        """The kernel matrix K_ij = k(x_i, z_j): X (n, d), Z (m, d) -> (n, m)."""

    @abstractmethod
    def diag(self, X: Tensor) -> Tensor:
        """k(x_i, x_i): X (n, d) -> (n,)."""

    def fitted_to(self, X: Tensor, generator: torch.Generator) -> Kernel:
        """This kernel with any parameter that is left to the data (a median bandwidth) put in."""
        return self
