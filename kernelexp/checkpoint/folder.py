"""The checkpoints of one configuration: a folder that one process holds at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kernelexp.checkpoint.file import BrokenCheckpoint, read, remove_unfinished, write
from kernelexp.checkpoint.header import Header

# Two, so that a broken one is no loss.
_LAST = 2
_LOCK, _KEPT = "held", "kept.safetensors"
# File systems without locks: nothing keeps two processes from one folder there.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Checkpoint:
    """A training as it stood.

    Attributes:
        header: what it says of its run.
        tensors: all that the training carries.
        numbers: the same, of what JSON has.
    """

    header: Header
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Folder:
    """Checkpoints ``1.safetensors``, ``2.safetensors`` ..., of which the last two are there.

    The lock is the system's, on an open file, so that it ends with its process however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is this process's own."""
        return self._held is not None

    def hold(self) -> bool:
        """Make it this process's own; False where another living process has it.

        Raises:
            OSError: where there can be no such folder.
        """
        if self._held is not None:
            return True
        handle = _locked(self.path / _LOCK)
        if handle is None:
            return False
        self._held = handle
        os.ftruncate(handle, 0)
        os.write(handle, f"{socket.gethostname()} {os.getpid()}\n".encode())
        remove_unfinished(self.path)
        return True

    def holder(self) -> str:
        """Host and process id of who holds it, or has last."""
        try:
            return (self.path / _LOCK).read_text().strip()
        except OSError:
            return ""

    def newest(self) -> Checkpoint | None:
        """The newest that can be read; of broken ones a warning."""
        for path in reversed(self._numbered()):
            if (found := load(path)) is not None:
                return found
        return None

    def add(self, checkpoint: Checkpoint) -> None:
        """Write one more, then remove all but the last two; errors as ``file.write``."""
        there = self._numbered()
        number = int(there[-1].stem) + 1 if there else 1
        save(self.path / f"{number}.safetensors", checkpoint)
        for path in there[: 1 - _LAST]:
            path.unlink()

    def clear(self) -> None:
        """Remove all of them, but not one that was kept."""
        for path in self._numbered():
            path.unlink()

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep this one, of a training that has ended, beside the numbered ones."""
        save(self.path / _KEPT, checkpoint)

    def release(self) -> None:
        """Leave it to others; an empty one goes."""
        if self._held is None:
            return
        with contextlib.suppress(OSError):  # somebody else is about to hold it
            if [path.name for path in self.path.iterdir()] == [_LOCK]:
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        os.close(self._held)
        self._held = None

    def _numbered(self) -> list[Path]:
        """The checkpoints, oldest first."""
        if not self.path.is_dir():
            return []
        found = [path for path in self.path.glob("*.safetensors") if path.stem.isdecimal()]
        return sorted(found, key=lambda path: int(path.stem))


def kept(folder: Path) -> list[Path]:
    """Those that were kept, of all configurations under ``folder``."""
    return sorted(folder.glob(f"*/{_KEPT}"))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; errors as ``file.write``."""
    content = {"header": checkpoint.header.to_dict(), "numbers": checkpoint.numbers}
    write(path, checkpoint.tensors, content)


def load(path: Path) -> Checkpoint | None:
    """The checkpoint of a file; None and a warning where it is broken."""
    try:
        tensors, content = read(path)
        return Checkpoint(Header.from_dict(content["header"]), tensors, content["numbers"])
    except (BrokenCheckpoint, KeyError, TypeError) as error:
        warnings.warn(f"{path}: passed over, it is broken ({error})", RuntimeWarning, stacklevel=2)
        return None


def _locked(path: Path) -> int | None:
    """A handle of the file with the lock on it; None where another process has that."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # its last holder has removed the folder in between
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                if isinstance(error, BlockingIOError):
                    return None
                raise
        if _is(handle, path):
            return handle
        os.close(handle)


def _is(handle: int, path: Path) -> bool:
    """Whether an open file is still what ``path`` names."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
