"""How much memory there is, and how much this process holds, on a CPU or a GPU. All in bytes."""

import contextlib
import os
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")


def held_bytes(device: torch.device) -> int:
    """What this process holds now: resident memory on a CPU, reserved memory on a GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return _status_bytes("VmRSS")


def available_bytes(device: torch.device) -> int:
    """What this process may still take: free memory, within its control group's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of what is installed
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = _kilobytes(meminfo.read_text(), "MemAvailable")
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        return min(free, limit - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return free


def is_exhausted(error: RuntimeError) -> bool:
    """Whether PyTorch could not get the memory it asked for."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def reset_peak(device: torch.device) -> None:
    """Start a new peak, where the system allows it (Linux, CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # the peak then counts from the start of the process
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most this process held since ``reset_peak``."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    if _STATUS.exists():
        return _kilobytes(_STATUS.read_text(), key)
    import resource  # POSIX without /proc: the peak is all there is

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _kilobytes(text: str, key: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024
