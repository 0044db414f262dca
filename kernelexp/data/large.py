"""Large arrays in files without a name, which are gone with who uses them.

Their pages are the system's, which writes them back and drops them where memory is short.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from kernelexp.data.cache import cache_dir

# Bytes: files and arrays from here on are large.
LARGE = 1 << 28
# Bytes copied together.
_BLOCK = 1 << 26


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray:
    """An array to be filled; a large one in a file, where one can be written."""
    if math.prod(shape) * np.dtype(dtype).itemsize >= LARGE:
        with contextlib.suppress(OSError):
            return _in_a_file(shape, dtype)
    return np.empty(shape, dtype)


def _in_a_file(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    handle, path = unnamed()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with os.fdopen(handle, "r+b") as file:
        path.unlink()
        if hasattr(os, "posix_fallocate"):  # a full disk is to be known now, and not by a signal
            os.posix_fallocate(file.fileno(), 0, size)
        array: np.ndarray = np.memmap(file, dtype, "w+", shape=shape)
    return array


def take(x: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The rows of x that are marked (n,), of its type; of an array in a file, ours or the user's, by way of ``empty``."""
    if not isinstance(x, np.memmap):
        marked: np.ndarray = x[marks]
        return marked
    out = empty((int(marks.sum()), *x.shape[1:]), x.dtype)
    filled, rows = 0, max(1, _BLOCK // x[:1].nbytes)
    for start in range(0, len(x), rows):
        part = x[start : start + rows][marks[start : start + rows]]
        out[filled : filled + len(part)] = part
        filled += len(part)
    return out


def unnamed() -> tuple[int, Path]:
    """A new file in the cache folder, open to write; who made it is to unlink it."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    return handle, Path(name)
