"""How much memory there is, and how much this process holds, on a CPU or a GPU. All in bytes."""

import contextlib
import ctypes
import os
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")

# PyTorch then asks Linux for pages of 2 MB, not 4 KB: the first touch of a large tensor is five to ten
# times faster. It looks before its first large tensor, so this has to stand where it is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# glibc's malloc returns the end of its heap to the system once 128 KB of it are free, and the temporaries
# of each tile would be new memory. Until some large block has been freed, that is, so a run hardly knows;
# predictions by a fresh process do.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
with contextlib.suppress(OSError, AttributeError):  # another C library
    _libc = ctypes.CDLL(None)
    _libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
    _libc.mallopt(_M_MMAP_THRESHOLD, 16 << 20)


def held_bytes(device: torch.device) -> int:
    """What this process holds now: resident memory on a CPU, reserved memory on a GPU.

    Without the pages of files (libraries, mapped data), which the system drops when memory is short.
    """
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return _status_bytes("VmRSS") - _file_bytes()


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
        used = int((_CGROUP / "memory.current").read_text())
        counts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        pages_of_files = int(counts["active_file"]) + int(counts["inactive_file"])
        return min(free, limit - used + pages_of_files)
    except (OSError, ValueError, KeyError):  # no control group, or no limit ("max")
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
    """The most this process held since ``reset_peak``, without the pages of files it holds now.

    Where pages of mapped data came after the peak that is too little.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return _status_bytes("VmHWM") - _file_bytes()


def _file_bytes() -> int:
    return _status_bytes("RssFile") if _STATUS.exists() else 0


def _status_bytes(key: str) -> int:
    if _STATUS.exists():
        return _kilobytes(_STATUS.read_text(), key)
    import resource  # POSIX without /proc: the peak is all there is

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _kilobytes(text: str, key: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024
