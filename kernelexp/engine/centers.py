"""The centers of a model with fewer centers than training points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.devices import tiling
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.plan import Sizes, tile_numbers
from kernelexp.engine.points import Points
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.engine.rpcholesky import BLOCK, rp_cholesky
from kernelexp.engine.singular import DistinctRows

# Of Lloyd's algorithm.
_ROUNDS = 10


def choose_centers(X: Tensor, kind: str, p: int, generator: torch.Generator) -> Tensor:
    """Z of at most p centers from X (n, d), which alone decides: -> (p, d).

    ``all`` takes X itself, ``random`` rows without repetition, ``kmeans`` the means that Lloyd's
    algorithm reaches in ten rounds from random rows; a mean that loses all its points is dropped, so
    there can be fewer. X itself is returned wherever its rows are the centers.
    """
    if kind != "kmeans" and p >= len(X):
        return X
    return _BY_POINTS[kind](X, min(p, len(X)), generator)


def _all(X: Tensor, p: int, generator: torch.Generator) -> Tensor:
    return X


def _random(X: Tensor, p: int, generator: torch.Generator) -> Tensor:
    return X[torch.randperm(len(X), generator=generator)[:p].to(X.device)]


def _kmeans(X: Tensor, p: int, generator: torch.Generator) -> Tensor:
    Z, parts = _random(X, p, generator), torch.split(X, tiling(X.device).rows)
    for _ in range(_ROUNDS):
        nearest = torch.cat(
            [squared_distances(Points(rows), Points(Z)).argmin(1) for rows in parts]
        )
        counts = nearest.bincount(minlength=len(Z))  # (p,)
        sums = torch.zeros_like(Z).index_add_(0, nearest, X)
        used = counts > 0
        Z = sums[used] / counts[used, None]
    return Z


_BY_POINTS = {"all": _all, "random": _random, "kmeans": _kmeans}
# The last are the pivots of ``rpcholesky``: by the kernel, so that its matrix at the centers stands for all of it.
KINDS = (*_BY_POINTS, "rpcholesky")


def check_centers(kind: str | None, n_centers: int | None) -> None:
    """Refuse a kind that there is not, or a number beside ``all``."""
    number("n_centers", n_centers, 1, whole=True, optional=True)
    if kind is not None:
        one_of("centers", kind, KINDS)
    if kind == "all" and n_centers is not None:
        raise refuse("n_centers", n_centers, "left out with centers=all")


@dataclass(frozen=True)
class CenterRule:
    """Which points are the centers of a model.

    Attributes:
        kind: asked for; None: ``random`` where a number is given, else ``default``.
        n_centers: asked for; None: all, or max(1,000, n / 10).
        default: where neither is given.
    """

    kind: str | None
    n_centers: int | None
    default: str = "random"

    @property
    def chosen(self) -> str:
        """The kind."""
        return self.kind or (self.default if self.n_centers is None else "random")

    def takes_all(self, n: int) -> bool:
        """Whether all n points are the centers, those that coincide as one."""
        return self.chosen != "kmeans" and self.count(n) >= n

    def count(self, n: int) -> int:
        """How many of n points: p, at most.

        Raises:
            ValueError: where there are more centers than points.
        """
        number("solver.n_centers", self.n_centers, 1, n, whole=True, optional=True)
        if self.chosen == "all":
            return n
        return self.n_centers or min(n, max(1000, n // 10))

    def bytes_to_choose(self, sizes: Sizes, device: torch.device) -> int:
        """What is held while they are chosen: by ``rpcholesky`` the factor, of which a rank has its rows."""
        n = sizes.n
        if self.chosen != "rpcholesky" or self.takes_all(n):
            return 0
        return 8 * (sizes.own(n) * (self.count(n) + BLOCK) + tile_numbers(n, device))

    def choose(
        self,
        X: Tensor,
        points: Points,
        kernel: BlockedKernel,
        distinct_rows: Callable[[Tensor], DistinctRows],
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> tuple[Tensor, DistinctRows | None]:
        """Z (p, d), no two alike; and how the points X (n, d) are the centers, where all of them are.

        ``points``: X, as the kernel takes it; ``distinct_rows``: those of a table, of which X may be known already
        (``Problem.distinct_rows``).
        """
        kind, p = self.chosen, self.count(len(X))
        if kind == "rpcholesky" and p < len(X):
            pivots = rp_cholesky(kernel, points, p, generator, ranks).pivots
            Z = X[pivots.to(X.device)] if len(pivots) else X[:1]
        elif kind == "kmeans":
            # It takes time, and means that differ in their last digits lose other points.
            Z = ranks.once(lambda: choose_centers(X, kind, p, generator), generator)
        else:
            Z = choose_centers(X, kind, p, generator)
        distinct = distinct_rows(Z)
        all_of_them = distinct if Z is X else None
        if len(distinct.first) < len(Z):
            Z = Z[distinct.first]
        return Z if Z is X else Z.to(points.device), all_of_them
