"""The centers of a model with fewer centers than training points."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelexp.engine.devices import tiling
from kernelexp.engine.kernels.geometry import squared_distances
from kernelexp.engine.points import Points

# Of Lloyd's algorithm.
_ROUNDS = 10


def choose_centers(X: Tensor, kind: str, p: int, generator: torch.Generator) -> Tensor:
    """Z of at most p centers from X (n, d): -> (p, d).

    ``all`` takes X itself, ``random`` rows without repetition, ``kmeans`` the means that Lloyd's
    algorithm reaches in ten rounds from random rows; a mean that loses all its points is dropped, so
    there can be fewer. X itself is returned wherever its rows are the centers.
    """
    if kind != "kmeans" and p >= len(X):
        return X
    return KINDS[kind](X, min(p, len(X)), generator)


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


KINDS = {"all": _all, "random": _random, "kmeans": _kmeans}
