"""How much memory there is, and how much this process holds, on a CPU or a GPU. All in bytes."""

import contextlib
import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor

from kernelexp.engine import memory_limits

_STATUS = Path("/proc/self/status")

# PyTorch then asks Linux for pages of 2 MB, not 4 KB: the first touch of a large tensor is five to ten
# times faster. It looks before its first large tensor, so this has to stand where it is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# glibc's malloc returns the end of its heap to the system once 128 KB of it are free, and the temporaries
# of each tile would be new memory. Until some large block has been freed, that is, so a run hardly knows;
# predictions by a fresh process do.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed(libc: ctypes.CDLL) -> bool:
    """Ask malloc to keep what is freed; whether it took that, which only glibc's does."""
    with contextlib.suppress(AttributeError):  # another C library
        wanted = {_M_TRIM_THRESHOLD: 64 << 20, _M_MMAP_THRESHOLD: 16 << 20}
        taken = [libc.mallopt(option, size) for option, size in wanted.items()]
        return all(taken)
    return False


with contextlib.suppress(OSError, TypeError):  # where a program cannot be asked for its own symbols
    keep_freed(ctypes.CDLL(None))


def held_bytes(device: torch.device) -> int:
    """What this process holds now: resident memory on a CPU, that of its tensors on a GPU.

    Without the pages of files (libraries, mapped data), which the system drops when memory is short, and
    without what PyTorch keeps of freed tensors: the next ones get it.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status_bytes("VmRSS") - _file_bytes()


def available_bytes(device: torch.device) -> int:
    """What this process may still take: free memory, within every limit it is under."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of what is installed
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = _kilobytes(meminfo.read_text(), "MemAvailable")
    return max(0, min([free, *memory_limits.rooms()]))


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on ``device``; from the host to a GPU by way of pinned memory, so that the host does not wait."""
    if device.type == "cuda" and not values.is_cuda:
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def release(device: torch.device) -> None:
    """Give back what PyTorch keeps of freed tensors, in pieces that may be too small, on a GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_exhausted(error: BaseException) -> bool:
    """Whether PyTorch, or Python, could not get the memory it asked for."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


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
        return torch.cuda.max_memory_allocated(device)
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
