"""How fast a machine does what training consists of, measured in about a second; for forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from kernelexp.engine.kernels import Kernel
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.resource import clock

# Rows and columns of the kernel matrix that is computed, the size of the matrix that is factored, and the numbers
# of the one that is read, more than a cache holds.
_ROWS, _COLUMNS, _SIZE, _READ_ROWS, _READ_COLUMNS = 1024, 4096, 1024, 4096, 8192
# Columns of what it is multiplied by.
_OUTPUTS = 10
# Starting the products of a step takes about this, in small products.
_SMALL, _STARTS = 16, 12


@dataclass(frozen=True)
class Rates:
    """Seconds.

    Attributes:
        entry: for an entry of the kernel matrix.
        operation: for a multiplication or an addition of dense products.
        read: for a number of a stored matrix in a product with ten columns.
        step: for starting a step.
    """

    entry: float
    operation: float
    read: float
    step: float


def measure(
    kernel: Kernel, d: int, dtype: torch.dtype, precision: str, device: torch.device
) -> Rates:
    """The rates of one type of number, with points (n, d) of random bytes / 255, as images are.

    ``precision``: as in ``Points.of``.
    """
    generator = torch.Generator().manual_seed(0)
    bytes_ = torch.randint(0, 256, (_COLUMNS, d), generator=generator)
    points = Points.of(bytes_.to(dtype) / 255, precision, device)
    K = BlockedKernel.on(kernel, device)(points[:_ROWS], points)
    A = torch.ones(_SIZE, _SIZE, dtype=dtype, device=device)
    long = torch.ones(_READ_ROWS, _READ_COLUMNS, dtype=dtype, device=device)
    few = torch.ones(_OUTPUTS, _READ_ROWS, dtype=dtype, device=device)
    small = torch.ones(_SMALL, _SMALL, dtype=dtype, device=device)

    def seconds(of: Callable[[], object]) -> float:
        of()
        times = []
        for _ in range(3):
            start = clock(device)
            of()
            times.append(clock(device) - start)
        return min(times)

    return Rates(
        entry=seconds(lambda: K.dense()) / (_ROWS * _COLUMNS),
        operation=seconds(lambda: A @ A) / (2 * _SIZE**3),
        read=seconds(lambda: few @ long) / (_READ_ROWS * _READ_COLUMNS),
        step=seconds(lambda: [small @ small for _ in range(_STARTS)]),
    )
