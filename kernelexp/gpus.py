"""One GPU for each job of a machine with several: a free one, by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


@contextmanager
def own_gpu(device: torch.device) -> Iterator[torch.device]:
    """For ``cuda`` without a number a GPU that no other job has, while within; any other device as it is.

    Where all are taken jobs share, spread by their process ids. The lock is on a file of the GPU's own name in the
    system's folder for temporary files, with the holder's id in it.
    """
    count = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 0
    if count < 2:
        yield device
        return
    for index in range(count):
        file = _opened(_lock_file(index))
        try:
            if _locked(file):
                with suppress(OSError):  # another user's file
                    os.truncate(file, 0)
                    os.write(file, f"{os.getpid()}\n".encode())
                yield torch.device("cuda", index)
                return
        finally:
            os.close(file)  # and the lock with it
    yield torch.device("cuda", os.getpid() % count)


def _lock_file(index: int) -> Path:
    name = torch.cuda.get_device_properties(index).uuid
    return Path(tempfile.gettempdir()) / f"kernelexp-gpu-{name}.lock"


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user made it, and a lock needs no more than reading
        return os.open(path, os.O_RDONLY)
    with suppress(PermissionError):
        os.fchmod(file, 0o666)  # for all, whatever this user's files are
    return file


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
