"""The resource G: what the device can hold and how many rows it takes to keep it busy.

Ma, Belkin 2019, section 3 chooses one number from it, the batch m_max = min(m_C, m_S), with
(d + c) m_C n = C_G operations at once and (d + c + m_S) n = S_G numbers of memory. Here

- m_C is measured: the block of rows from which on larger blocks are hardly faster. It becomes
  ``block_size`` and has no influence on the numbers a run produces, only on its speed.
- m_S follows from memory: blocks are never stored whole (``operator``), so a block of B rows costs
  B (B + d + 3 c + q) numbers, not B n. It becomes ``max_batch_size``, the m_max that limits q.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from kernelexp.engine import devices
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points

# Rows against which blocks are timed, and the share of the best rate asked for.
_PROBE_ROWS = 4096
_BUSY = 0.95


def measure_block_size(
    kernel: Kernel, X: Tensor, precision: str = "auto", device: torch.device | None = None
) -> int:
    """m_C: the smallest block that reaches 95% of the best rate, in rows per second.

    Times K(X', X_B) @ W on up to 4,096 rows of X (n, d), the best of three for each block. A block of
    B rows also costs its own B x B matrix, hence a factor of 1 / (1 + B / n). ``precision``, ``device``:
    as in ``Points.of``.
    """
    first = Points.of(X[:_PROBE_ROWS], precision, device)
    tried = devices.blocks(first.device)
    last = Points.of(X[-tried[-1] :], precision, device)
    blocks = [block for block in tried if block <= len(X)] or [len(X)]
    rates = [
        max(_rate(kernel, first, last[slice(len(last) - block, None)]) for _ in range(3))
        for block in blocks
    ]
    rates = [rate / (1 + block / len(X)) for block, rate in zip(blocks, rates, strict=True)]
    return next(b for b, rate in zip(blocks, rates, strict=True) if rate >= _BUSY * max(rates))


def _rate(kernel: Kernel, X: Points, Z: Points) -> float:
    device = X.device
    K = BlockedKernel.on(kernel, device)(X, Z)
    start = clock(device)
    K.matmul(torch.zeros(len(Z), 1, dtype=Z.values.dtype, device=device))
    return len(Z) / (clock(device) - start)


def clock(device: torch.device) -> float:
    """Seconds, after all work queued on ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
