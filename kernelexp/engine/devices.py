"""What is fast on a CPU and on a GPU: the pieces that work with a kernel matrix is cut into.

They change the time a run takes and the last digits of sums, nothing else. On a CPU a piece has to stay in
cache; on a GPU it has to fill the device, and each piece costs the host a few launches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tiling:
    """The sizes of the pieces.

    Attributes:
        tile: rows and columns of a tile of K, which is computed and used before the next one.
        gathered_bytes: kept rows that are picked one by one, copied and multiplied at a time.
        rows: rows of K computed together where they are used once.
    """

    tile: int
    gathered_bytes: int
    rows: int


# 1 MB of float32 and its temporaries stay in the second-level cache, 6 MB in the third.
CPU = Tiling(tile=512, gathered_bytes=6_000_000, rows=1024)
GPU = Tiling(tile=8192, gathered_bytes=1 << 28, rows=1024)


def tiling(device: torch.device) -> Tiling:
    """The pieces for ``device``."""
    return CPU if device.type == "cpu" else GPU
