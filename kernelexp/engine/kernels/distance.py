"""What kernels of a distance have in common: a bandwidth, in the unit of the data, and 1 at x = z."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from kernelexp.engine.checks import number
from kernelexp.engine.kernels.base import Kernel
from kernelexp.engine.points import Points

_MEDIAN_SAMPLE = 2000


@dataclass(frozen=True)
class DistanceKernel(Kernel):
    """A kernel of distance / bandwidth; subclasses say which distance.

    ``"median"`` stands for the median distance between training points and is put in by ``fitted_to``.

    Raises ``ValueError`` for a bandwidth that is neither a number above 0 nor ``"median"``.
    """

    bandwidth: float | str = 10.0

    def __post_init__(self) -> None:
        if self.bandwidth == "median":
            return
        try:
            number("bandwidth", self.bandwidth, above=0)
        except ValueError as error:
            raise ValueError(f"{error}, or median") from None

    @property
    def scale(self) -> float:
        """The bandwidth as a number; ``ValueError`` while it is still left to the data."""
        if isinstance(self.bandwidth, str):
            raise ValueError("bandwidth=median: call kernel.fitted_to(X, generator) first")
        return self.bandwidth

    @abstractmethod
    def median_distance(self, X: Points) -> float:
        """The median distance between two of at least two points."""

    def diag(self, X: Tensor) -> Tensor:
        return X.new_ones(len(X))

    def fitted_to(self, X: Tensor, generator: torch.Generator) -> Self:
        """Replace ``"median"`` by the median distance between up to 2,000 points of X (n, d)."""
        if self.bandwidth != "median":
            return self
        rows = torch.randperm(len(X), generator=generator)[:_MEDIAN_SAMPLE].to(X.device)
        median = self.median_distance(Points(X[rows])) if len(rows) > 1 else 0.0
        if median == 0 and len(rows) > 1:  # or squares of distances have vanished
            median = self.median_distance(Points(X[rows].double()))
        if median == 0:
            raise ValueError(
                "bandwidth=median: more than half of the points coincide; give a number"
            )
        return replace(self, bandwidth=median)


def median_of_pairs(D: Tensor) -> float:
    """The median of D (n, n) above its diagonal."""
    i, j = torch.triu_indices(len(D), len(D), offset=1, device=D.device)
    return D[i, j].median().item()
