"""The block of kernel rows that a machine is fastest with: measured once, then known."""

from __future__ import annotations

import json
import os
from pathlib import Path

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
        return _known(path)[key]
    except KeyError:
        measured = measure_block_size(kernel, X, precision, device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({**_known(path), key: measured}, indent=1))
        os.replace(part, path)
    except OSError:
        pass  # a cache that cannot be written costs a measurement, nothing else
    return measured


def _known(path: Path) -> dict[str, int]:
    """What has been measured; nothing where the file can not be read, or a full disk has cut it."""
    try:
        known: dict[str, int] = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    return known


def described(device: torch.device) -> str:
    """A device in words, with its threads where it has some."""
    name = device_name(device)
    return name if device.type == "cuda" else f"{name}, {torch.get_num_threads()} threads"
