"""The block of kernel rows that a machine is fastest with: measured once, then known."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from kernelexp.data.cache import cache_dir
from kernelexp.engine import Kernel, measure_block_size
from kernelexp.engine.devices import device_name


def block_size(kernel: Kernel, X: Tensor, precision: str, device: torch.device) -> int:
    """``measure_block_size``, once on a machine: a second run then gives the same digits.

    Kept in the cache folder; delete ``block_sizes.json`` there to measure again.
    """
    n, d = X.shape
    key = f"{described(device)}, {X.dtype}, {precision}, {kernel.name}, {n=}, {d=}"
    path = cache_dir() / "block_sizes.json"
    try:
        known: dict[str, int] = json.loads(path.read_text())
        return known[key]
    except (OSError, ValueError, KeyError):
        measured = measure_block_size(kernel, X, precision, device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, key: measured}, indent=1))
    except (OSError, ValueError):
        pass  # a cache that cannot be written costs a measurement, nothing else
    return measured


def described(device: torch.device) -> str:
    """A device in words, with its threads where it has some."""
    name = device_name(device)
    return name if device.type == "cuda" else f"{name}, {torch.get_num_threads()} threads"
