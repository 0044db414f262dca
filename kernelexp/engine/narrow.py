"""Products of K, or of K^T, with as few columns as there are outputs: K is read, and that is what they should cost.

BLAS multiplies by panels, 8 or 16 numbers of float32 wide, and what is left over goes a slow way. So with more than
eight columns W gets columns of zeros up to a whole panel, and with two to seven it is W^T K^T that gets rows of zeros:
up to 1.5 times as fast on two cores of an AMD EPYC with AVX-512 (``benchmarks/narrow.py``). Float64 gains nothing
there, and is left as it is, as GPUs are: transposed, since one column after the other is what is read fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_PANEL, _WIDE = 8, 16


def narrow_matmul(K: Tensor, W: Tensor) -> Tensor:
    """K W: (n, m), (m, c) -> (n, c)."""
    c = W.shape[1]
    if _has_panels(W) and c > _PANEL:
        return (K @ _whole_panels(W))[:, :c]
    if _has_panels(W) and 1 < c < _PANEL:
        return (pad(W.mT, (0, 0, 0, _PANEL - c)) @ K.mT)[:c].mT
    return (W.mT.contiguous() @ K.mT).mT


def narrow_transposed_matmul(K: Tensor, W: Tensor) -> Tensor:
    """K^T W: (m, n), (m, c) -> (n, c)."""
    if _has_panels(W) and W.shape[1] > _PANEL:
        return (K.mT @ _whole_panels(W))[:, : W.shape[1]]
    return (W.mT.contiguous() @ K).mT


def _has_panels(W: Tensor) -> bool:
    return W.device.type == "cpu" and W.dtype == torch.float32


def _whole_panels(W: Tensor) -> Tensor:
    """W (m, c) with columns of zeros."""
    c = W.shape[1]
    return pad(W, (0, max(_WIDE, -(-c // _PANEL) * _PANEL) - c))
