"""Sums and products of kernels, which are kernels again; radial terms share the distances of a tile."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernelexp.engine import kernels
from kernelexp.engine.checks import number, refuse
from kernelexp.engine.kernels.base import Kernel
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.kernels.radial import Radial
from kernelexp.engine.points import Points
from kernelexp.engine.registry import made


@dataclass(frozen=True)
class Composite(Kernel):
    """Of ``terms``: kernels, their names, or ``{"name": ..., parameter: ...}``.

    Raises ``ValueError`` for an empty list, and for what is none of these.
    """

    terms: list[Any] = field(default_factory=lambda: ["laplacian", "gaussian"])

    def __post_init__(self) -> None:
        allowed = "a list of kernels, as [laplacian, {name: gaussian, bandwidth: 5}]"
        if not isinstance(self.terms, list | tuple) or not self.terms:
            raise refuse("terms", self.terms, allowed)
        terms = tuple(
            term if isinstance(term, Kernel) else made("terms", term, kernels.KERNELS, allowed)
            for term in self.terms
        )
        object.__setattr__(self, "terms", terms)  # a tuple, so that kernels stay hashable

    @property
    def parameters(self) -> dict[str, Any]:
        terms = [{"name": term.name, **term.parameters} for term in self.terms]
        return {**super().parameters, "terms": terms}

    def fitted_to(self, X: Tensor, generator: torch.Generator) -> Kernel:
        """Each term fitted by itself, from the same draws."""
        state = generator.get_state()
        terms = [t.fitted_to(X, torch.Generator().set_state(state)) for t in self.terms]
        return replace(self, terms=terms)

    def _matrices(self, X: Points, Z: Points) -> Iterator[Tensor]:
        """K of each term, in memory of its own."""
        radial = [isinstance(term, Radial) for term in self.terms]
        last = len(radial) - 1 - radial[::-1].index(True) if any(radial) else -1
        squares = squared_distances(X, Z) if any(radial) else None
        for place, term in enumerate(self.terms):
            if isinstance(term, Radial) and squares is not None:
                yield term.profile(squares if place == last else squares.clone())
            else:
                yield term.matrix(X, Z)

    @abstractmethod
    def matrix(self, X: Points, Z: Points) -> Tensor: ...


@dataclass(frozen=True)
class Sum(Composite):
    """k = sum_t weight_t k_t, weights above 0 (null: all 1); with one term a scaled kernel.

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> terms = [{"name": "laplacian", "bandwidth": 5.0}, {"name": "cauchy", "bandwidth": 5.0}]
    >>> Sum(terms, weights=[2.0, 1.0])(X, Z)  # 2 exp(-1) + 1 / 2
    tensor([[1.2358]])
    """

    name: ClassVar[str] = "sum"
    weights: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            return
        if not isinstance(self.weights, list | tuple) or len(self.weights) != len(self.terms):
            raise refuse("weights", self.weights, f"null, or {len(self.terms)} numbers, one a term")
        for weight in self.weights:
            number("weights", weight, above=0)
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))

    @property
    def _weights(self) -> tuple[float, ...]:
        return tuple(self.weights) if self.weights is not None else (1.0,) * len(self.terms)

    def matrix(self, X: Points, Z: Points) -> Tensor:
        matrices, (first, *rest) = self._matrices(X, Z), self._weights
        K = next(matrices).mul_(first)
        for weight, matrix in zip(rest, matrices, strict=True):
            K.add_(matrix, alpha=weight)
        return K

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        parts = [term.gradient_factors(X, Z) for term in self.terms]
        a, b = (
            sum(w * f for w, f in zip(self._weights, fs, strict=True))
            for fs in zip(*parts, strict=True)
        )
        return torch.as_tensor(a), torch.as_tensor(b)

    def diag(self, X: Tensor) -> Tensor:
        parts = [w * term.diag(X) for w, term in zip(self._weights, self.terms, strict=True)]
        return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class Product(Composite):
    """k = prod_t k_t (positive semidefinite by Schur's product theorem).

    >>> X, Z = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])  # r = 5
    >>> terms = [{"name": "laplacian", "bandwidth": 5.0}, {"name": "cauchy", "bandwidth": 5.0}]
    >>> Product(terms)(X, Z)  # exp(-1) / 2
    tensor([[0.1839]])
    """

    name: ClassVar[str] = "product"

    def matrix(self, X: Points, Z: Points) -> Tensor:
        matrices = self._matrices(X, Z)
        K = next(matrices)
        for matrix in matrices:
            K.mul_(matrix)
        return K

    def gradient_factors(self, X: Points, Z: Points) -> tuple[Tensor, Tensor]:
        K, a, b = None, torch.zeros(()), torch.zeros(())
        for term, matrix in zip(self.terms, self._matrices(X, Z), strict=True):
            own_a, own_b = term.gradient_factors(X, Z)
            a, b = (own_a, own_b) if K is None else (a * matrix + own_a * K, b * matrix + own_b * K)
            K = matrix if K is None else K * matrix
        return a, b

    def diag(self, X: Tensor) -> Tensor:
        return torch.stack([term.diag(X) for term in self.terms]).prod(0)
