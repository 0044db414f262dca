"""Tiles of a kernel matrix: how points come to the device, and how one tile of K is computed.

A kernel evaluation is one matrix product and a chain of elementwise steps. In tiles that stay in
cache the chain costs little; over a whole block each step is a pass over memory. On a GPU the chain is
one step (``fused``). Points that stay on the host, since they exceed the GPU's memory or lie in a
mapped file, are copied tile by tile, the next one while the last one is used.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from kernelexp.engine.kernels import KERNELS, Kernel
from kernelexp.engine.points import Points


def ranges(length: int, step: int) -> Iterator[slice]:
    """The slices of at most ``step`` that make up ``length``."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream for copies to a GPU: one, since memory that was freed is kept for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def tiles(points: Points, size: int, like: Tensor) -> Iterator[tuple[slice, Points]]:
    """Points by ``size`` rows, in the type and on the device of ``like``: (rows, points)."""
    parts = ranges(len(points), size)
    if points.values.device == like.device:
        yield from ((rows, points[rows].to(like.dtype, like.device)) for rows in parts)
        return
    copying = _copying(like.device)

    def copy(rows: slice) -> tuple[slice, Points, torch.cuda.Event]:
        part = points[rows]
        with torch.cuda.stream(copying):
            if not part.values.is_pinned():
                part = replace(part, values=part.values.pin_memory())
            return rows, part.to(like.dtype, like.device), copying.record_event()

    copies = map(copy, parts)
    ahead = next(copies, None)
    while ahead is not None:
        rows, tile, copied = ahead
        ahead = next(copies, None)  # on its way while this one is used
        working = torch.cuda.current_stream(like.device)
        working.wait_event(copied)
        tile.values.record_stream(working)  # its memory is not given away while it is used
        yield rows, tile


def tiles_again(
    points: Points, size: int, like: Tensor
) -> Callable[[int], Iterator[tuple[slice, Points]]]:
    """``tiles`` to be gone through several times, from a given row on, a multiple of ``size``.

    Where nothing is copied a tile is made once, and so what it finds out about itself is known. Copies, to a device or
    to another type, are made each time: all of them together would be the points once more.
    """
    if (points.values.device, points.values.dtype) == (like.device, like.dtype):
        made = list(tiles(points, size, like))
        return lambda first: iter(made[first // size :])

    def copied(first: int) -> Iterator[tuple[slice, Points]]:
        for part, tile in tiles(points[slice(first, None)], size, like):
            yield slice(first + part.start, first + part.stop), tile

    return copied


@functools.cache
def _fused(device: torch.device) -> ModuleType | None:
    """The module of the Triton kernel where it runs on ``device``: one tile shows it, once.

    Triton builds its launcher with a C compiler and the headers of Python, and either can be missing.
    """
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from kernelexp.engine import fused  # Triton takes half a second to import

    point = Points(torch.zeros(1, 1, device=device))
    try:
        fused.matrix(KERNELS["gaussian"](), point, point)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        warnings.warn(
            "Triton cannot build its kernel here, so kernel values are computed step by step, which is "
            f"slower; it needs a C compiler and Python's headers ({type(error).__name__}: {reason[-1]})",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return fused


def kernel_tile(kernel: Kernel, X: Points, Z: Points) -> Tensor:
    """K of a tile, in new memory: X (m, d), Z (r, d), on one device -> (m, r)."""
    fused = _fused(X.values.device)
    if fused is not None and fused.serves(kernel, X):
        K: Tensor = fused.matrix(kernel, X, Z)
        return K
    return kernel.matrix(X, Z)
