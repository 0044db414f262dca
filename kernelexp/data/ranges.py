"""Numbers that training can work with: finite, with finite sums of their squares."""

from __future__ import annotations

import math

import numpy as np
import torch

# Numbers looked at together: arrays may be larger than memory.
_PART = 1 << 24


def check_type(name: str, array: np.ndarray) -> None:
    """Refuse numbers that PyTorch does not take.

    Raises:
        ValueError: one line with the array's name.
    """
    if array.dtype.kind in "iuf" and (not array.dtype.isnative or array.itemsize > 8):
        fitting = "numbers of up to 64 bits, in this machine's byte order"
        raise ValueError(f"{name}: {array.dtype.str}; must be {fitting}: .astype('float64')")


def check_numbers(
    name: str, array: np.ndarray, dtype: torch.dtype, summed: int, scale: str = "none"
) -> None:
    """Refuse NaN, infinite numbers and such as overflow: max |x| > sqrt(largest of dtype / (4 summed)).

    Args:
        name: of the array, for the message.
        array: any shape, any type; read by parts.
        dtype: in which it will be worked with.
        summed: how many squares will be added up, of differences of two numbers: hence the 4.
        scale: how the array has been scaled already, for the message.

    Raises:
        ValueError: one line with the array's name and its range.
    """
    if array.dtype.kind in "biu" and array.dtype.itemsize <= 2:
        return
    low, high = _range(array)
    if math.isnan(low) or math.isinf(low) or math.isinf(high):
        raise ValueError(f"{name}: has NaN or infinite numbers; remove or replace them")
    most = math.sqrt(torch.finfo(dtype).max / (4 * summed))
    if max(-low, high) <= most:
        return
    when = f" after dataset.scale={scale}" if scale != "none" else ""
    kind = str(dtype).removeprefix("torch.")
    wider = ", or take dtype=float64" if dtype == torch.float32 else ""
    raise ValueError(
        f"{name}: numbers from {low:.3g} to {high:.3g}{when}, squares of which overflow in {kind}; must "
        f"be at most {most:.2g} in size: correct what is wrong or give them another unit{wider}"
    )


def _range(array: np.ndarray) -> tuple[float, float]:
    """Smallest and largest number; NaN where there is one."""
    rows = max(1, _PART // max(1, math.prod(array.shape[1:])))
    parts = [array[start : start + rows] for start in range(0, len(array), rows)]
    ranges = np.array([(float(part.min()), float(part.max())) for part in parts])
    return float(ranges[:, 0].min()), float(ranges[:, 1].max())
