"""What a device is, in words, and what is fast on it: the pieces that work with a kernel matrix is cut into.

The pieces change the time a run takes and the last digits of sums, nothing else. On a CPU a piece has to stay in
cache; on a GPU it has to fill the device, and each piece costs the host a few launches.
"""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Tiling:
    """The sizes of the pieces.

    Attributes:
        tile: rows and columns of a tile of K, which is computed and used before the next one.
        gathered_bytes: kept rows that are picked one by one, copied and multiplied at a time.
        rows: rows of K computed together where they are used once.
        picked: K of some points among themselves is picked from kept rows, n numbers each, where n is at
            most this times d; else it is computed anew.
    """

    tile: int
    gathered_bytes: int
    rows: int
    picked: int


_CPUINFO = Path("/proc/cpuinfo")
_SYSTEM_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_GENERATION = (("family", "cpu family"), ("model", "model"))
# From this size on (KB, one core) a second-level cache holds a tile of 512 x 512 float32 and its temporaries.
# In a smaller one no tile stays that is worth its calls; the third level then takes larger ones.
_HOLDS_TILE = 1280
# 4 MB stay in the third-level cache. With int8 dot products (a processor of the first kind) K of bytes is
# computed faster than picked.
CPU = Tiling(tile=512, gathered_bytes=4_000_000, rows=1024, picked=8)
CPU_SMALL_CACHE = Tiling(tile=768, gathered_bytes=4_000_000, rows=1024, picked=64)
# Each piece costs launches, and a GPU has memory for large ones.
GPU = Tiling(tile=8192, gathered_bytes=1 << 30, rows=1024, picked=1 << 40)

# Rows of K that are tried for the solvers that take many batches at once (``resource``). Smaller blocks would
# do for a CPU's products; but each block ends with a pass over all predictions.
_CPU_BLOCKS, _GPU_BLOCKS = (1024, 2048, 4096), (8192,)  # on a GPU each block costs launches
_USUAL_BLOCK = 2048


def blocks(device: torch.device) -> tuple[int, ...]:
    """The blocks to choose from on ``device``, ascending."""
    return _CPU_BLOCKS if device.type == "cpu" else _GPU_BLOCKS


def usual_block(device: torch.device) -> int:
    """The block where none was measured."""
    return _USUAL_BLOCK if device.type == "cpu" else _GPU_BLOCKS[-1]


def tiling(device: torch.device) -> Tiling:
    """The pieces for ``device``: read from the system, not timed, so a machine has always the same."""
    if device.type != "cpu":
        return GPU
    known = second_level_cache()
    return CPU_SMALL_CACHE if known is not None and known < _HOLDS_TILE else CPU


@functools.cache
def second_level_cache() -> int | None:
    """KB of second-level cache that a core has; None where the system does not say."""
    try:
        size = _SYSTEM_CACHE.read_text().strip()
    except OSError:  # not Linux
        return None
    return int(size[:-1]) if size.endswith("K") and size[:-1].isdigit() else None


@functools.cache
def device_name(device: torch.device) -> str:
    """A GPU by its name; a processor by its name, generation, instruction set and second-level cache.

    A virtual machine's processor is often no more than ``AMD EPYC``, hence the rest.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = capability + (" with VNNI" if torch.cpu._is_vnni_supported() else "")
    cache = second_level_cache()
    parts = [*_processor(), instructions, *([f"{cache} KB L2"] if cache is not None else [])]
    return ", ".join(parts)


def _processor() -> list[str]:
    """Name, and family and model where Linux tells them."""
    try:
        text = _CPUINFO.read_text().split("\n\n")[0]
    except OSError:  # not Linux
        text = ""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in pairs}
    if "model name" not in known:
        return [platform.processor() or platform.machine()]
    numbers = [f"{key} {known[name]}" for key, name in _GENERATION if name in known]
    return [known["model name"], *([" ".join(numbers)] if numbers else [])]
