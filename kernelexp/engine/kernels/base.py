"""What every kernel is: a small frozen object, a pure function of two point sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine.points import Points, as_points


class Kernel(ABC):
    """A positive semidefinite function k(x, z) on R^d.

    A subclass is a frozen dataclass of its parameters. It knows no blocks, devices or state: those
    belong to ``engine.operator``, which calls it on tiles.
    """

    name: ClassVar[str]

    @property
    def parameters(self) -> dict[str, Any]:
        """The fields of the dataclass by name; with ``name`` all that it takes to make the kernel again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __call__(self, X: Tensor | Points, Z: Tensor | Points) -> Tensor:
        """The kernel matrix K_ij = k(x_i, z_j): X (n, d), Z (m, d) -> (n, m)."""
        return self.matrix(as_points(X), as_points(Z))

    @abstractmethod
    def matrix(self, X: Points, Z: Points) -> Tensor:
        """The kernel matrix from inner products or distances of ``Points``, or their ``values``."""

    @abstractmethod
    def diag(self, X: Tensor) -> Tensor:
        """k(x_i, x_i): X (n, d) -> (n,)."""

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        """Two factors a and b, (n, m) each, with grad_x k(x_i, z_j) = a_ij z_j + b_ij x_i.

        Every kernel of x.z, |x| and |z| has them. Where k has no gradient, as at the corner of exp(-r), it is taken for 0.

        Raises:
            NotImplementedError: for a kernel without a closed form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no gradient in closed form")

    def fitted_to(self, X: Tensor, generator: torch.Generator) -> Kernel:
        """This kernel with any parameter that is left to the data (a median bandwidth) put in."""
        return self


@dataclass(frozen=True)
class FunctionKernel(Kernel):
    """A kernel of one's own: k(X, Z) -> (n, m) and its diagonal, a function X -> (n,) or a number.

    The functions get tensors of any device and precision and must be pure.

    >>> kernel = FunctionKernel(
    ...     lambda X, Z: (X @ Z.T + 1) ** 2, lambda X: (X.square().sum(1) + 1) ** 2
    ... )
    >>> X, Z = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])  # x.z = 11
    >>> kernel(X, Z), kernel.diag(X)  # 12^2 and 6^2
    (tensor([[144.]]), tensor([36.]))
    """

    function: Callable[[Tensor, Tensor], Tensor]
    diagonal: Callable[[Tensor], Tensor] | float

    def matrix(self, X: Points, Z: Points) -> Tensor:
        # Copies: the caller may write into what it gets, and this may be a view of the points.
        return self.function(X.values, Z.values).clone(memory_format=torch.contiguous_format)

    def diag(self, X: Tensor) -> Tensor:
        if callable(self.diagonal):
            return self.diagonal(X).clone(memory_format=torch.contiguous_format)
        return X.new_full((len(X),), self.diagonal)
