"""Centers whose functions span those of all: what is taken of K(Z, Z) where it is singular or nearly so."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.far_rows import FAR
from kernelexp.engine.linalg import CholeskyFactor
from kernelexp.engine.singular import SingularMatrixWarning, by_pivots, truncation, zero_pivot

# Centers that are left out though they could lower the error, of all, from which on that is said.
_MISSED = 0.1


@dataclass(frozen=True)
class Independent:
    """Points of a kernel matrix A (p, p) whose functions span those of all, and the factor of their matrix.

    Attributes:
        factor: L L^T = A[rows][:, rows], (r, r).
        rows: which they are, in the order of the factor, (r,); None: all, as they stand.
        left: of the diagonal of A, what these do not give of each point, (p,); 0 where that is rounding of float64.
    """

    factor: CholeskyFactor
    rows: Tensor | None
    left: Tensor


def independent(A: Tensor, zero: float = 0.0) -> Independent:
    """The Cholesky factor of A (p, p), in place, where its rows are independent; else of some that span all.

    Rows far larger than the others come first: what a point has beside such a center then ends in one coordinate, and
    its rounding is not spread over the others' (Higham 2002, section 19.4, on rows of widely varying norms).
    ``zero``: pivots up to this share of their own diagonal entries are none. Beside A there is one matrix of its
    size, and A is the same afterwards, where there are ``rows``.

    Raises:
        ValueError: where A is not positive semidefinite.
    """
    zero = max(zero, zero_pivot(len(A), A.dtype))
    order = _largest_first(A.diagonal())
    factor = CholeskyFactor(A if order is None else A[order[:, None], order], jitters=False)
    if factor.smallest_pivot > zero:
        return Independent(factor, order, torch.zeros_like(A[0]))
    if order is None:
        factor.restore()
    del factor
    rows, left = _spanning(A, zero)
    order = _largest_first(A.diagonal()[rows])
    rows = rows if order is None else rows[order]
    # In float32 it may be more than rounding: nobody knows.
    left[left <= zero_pivot(len(A), torch.float64) * A.diagonal()] = 0
    return Independent(CholeskyFactor(A[rows[:, None], rows]), rows, left)


def resolution(dtype: torch.dtype, size: float, ridge: float) -> float:
    """Up to which share of its k(z, z) what a center adds is none to a model whose numbers are of this type.

    Rounding of K, eps ``size`` an entry, ``size`` the mean of k(x, x), comes squared, and must stay below what the
    ridge holds; without one it is what weights can be (``truncation``).
    """
    held = torch.finfo(dtype).eps ** 2 * size / ridge if ridge else math.inf
    return min(held, truncation(dtype))


def tell_of_left_out(made: Independent, dtype: torch.dtype, ridge: float, finer: str) -> None:
    """Warn where many centers are left out though what they add is more than the ridge.

    ``dtype``: which does not tell them apart; ``finer``: what to take.
    """
    missed, p = int((made.left > ridge).sum()), len(made.left)
    if missed > _MISSED * p:
        name = str(dtype).removeprefix("torch.")
        warnings.warn(
            f"K(Z, Z) is nearly singular: {missed:,} of {p:,} centers are left out, which {name} cannot tell from the "
            f"others though with ridge={ridge:g} they may lower the training error; take {finer} or a larger ridge",
            SingularMatrixWarning,
            stacklevel=2,
        )


def _largest_first(diagonal: Tensor) -> Tensor | None:
    """The order in which those far larger than the others are first, and these as they stand; None: all are."""
    far = diagonal > FAR * diagonal.median()
    return diagonal.where(far, 0).argsort(descending=True, stable=True) if far.any() else None


def _spanning(A: Tensor, zero: float) -> tuple[Tensor, Tensor]:
    """The pivots alone (r,), and what they leave of the diagonal (p,)."""
    _, pivots, left = by_pivots(A, len(A), zero)
    return pivots, left
