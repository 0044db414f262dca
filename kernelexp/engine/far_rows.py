"""Rows of K far larger than the others, of points far off under a kernel that grows with them, and what they hide."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kernelexp.engine.singular import SOLVED, SingularMatrixWarning

# A k(x, x) this many times the median is far larger than the others.
FAR = 1e3


def hides_others(diagonal: Tensor, size: float) -> float:
    """Down to which share of their own k(x, x) most points are seen beside far larger ones, 0 where that is no matter.

    Rounding of K in float64 is eps |K|, ``size``, which the rows of a few points make, where these are far off under a
    kernel that grows with it. ``diagonal``: k(x, x), (m,).
    """
    positive = diagonal[diagonal > 0]
    if not len(positive) or positive.max() < FAR * positive.median():
        return 0.0
    share: float = torch.finfo(torch.float64).eps * size / positive.median().item()
    return share if share > SOLVED else 0.0


def tell_of_hidden(diagonal: Tensor, size: float) -> None:
    """Warn where that matters."""
    if share := hides_others(diagonal, size):
        usual, largest = diagonal.median().item(), diagonal.max().item()
        warnings.warn(
            f"k(x, x) is {usual:.2g} for most points and up to {largest:.2g}: beside the largest rows of K float64 sees "
            f"the others to {min(share, 1):.1g} of their own, and what is learned of them is no finer; take solver=exact "
            "on all points, or leave points far off out",
            SingularMatrixWarning,
            stacklevel=2,
        )
