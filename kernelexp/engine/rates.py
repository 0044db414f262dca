"""How fast a machine does what training consists of, measured in about a second; for forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernelexp.engine.kernels import Kernel
from kernelexp.engine.operator import BlockedKernel
from kernelexp.engine.points import Points
from kernelexp.engine.resource import clock

# Rows and columns of the kernel matrix that is computed, the size of the matrix that is factored, and the numbers
# of the one that is written and read, more than a cache holds and than an allocator keeps for the next one.
_ROWS, _COLUMNS, _SIZE, _READ_ROWS, _READ_COLUMNS = 1024, 4096, 1024, 4096, 8192
# Starting the products of a step takes about this, in small products.
_SMALL, _STARTS = 16, 12


@dataclass(frozen=True)
class Numbers:
    """Which numbers are computed with, and where.

    Attributes:
        d: coordinates of a point.
        c: outputs.
        in_bytes: whether coordinates are bytes / 255, as those of images are.
        dtype: their type.
        precision: as in ``Points.of``.
        device: where.
    """

    d: int
    c: int
    in_bytes: bool
    dtype: torch.dtype
    precision: str
    device: torch.device


@dataclass(frozen=True)
class Rates:
    """Seconds.

    Attributes:
        entry: for an entry of the kernel matrix that is used at once, in a product with a column for each output.
        store: for writing a number to memory that was not used before.
        operation: for a multiplication or an addition of dense products.
        read: for a number of a stored matrix in a product with a column for each output.
        step: for starting a step.
    """

    entry: float
    store: float
    operation: float
    read: float
    step: float


def measure(kernel: Kernel, numbers: Numbers) -> Rates:
    """The rates with random points in [0, 1]."""
    dtype, device, c = numbers.dtype, numbers.device, numbers.c
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(_COLUMNS, numbers.d, generator=generator, dtype=dtype)
    if numbers.in_bytes:
        X = (X * 255).round() / 255
    points = Points.of(X, numbers.precision, device)
    K = BlockedKernel.on(kernel, device)(points[:_ROWS], points)
    W = torch.ones(_COLUMNS, c, dtype=dtype, device=device)
    A = torch.ones(_SIZE, _SIZE, dtype=dtype, device=device)

    def write() -> Tensor:
        return torch.ones(_READ_ROWS, _READ_COLUMNS, dtype=dtype, device=device)

    long = write()
    few = torch.ones(c, _READ_ROWS, dtype=dtype, device=device)
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
        entry=seconds(lambda: K.matmul(W)) / (_ROWS * _COLUMNS),
        store=seconds(write) / (_READ_ROWS * _READ_COLUMNS),
        operation=seconds(lambda: A @ A) / (2 * _SIZE**3),
        read=seconds(lambda: few @ long) / (_READ_ROWS * _READ_COLUMNS),
        step=seconds(lambda: [small @ small for _ in range(_STARTS)]),
    )
