"""What a run has handed to the store or still has to, in a folder: kept until the store has all of it.

``multirun/unsent/<key>`` holds ``journal.jsonl``, an entry a line, and the model's files. Lines are
appended, files come before the line that names them, so a kill at any moment leaves a journal that holds
everything up to a moment. While its run is under way the journal is locked; the system releases the
lock of a killed process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO, TextIOWrapper
from pathlib import Path

from kernelexp.store.entries import Begin, Created, Entry, SweepEnd, from_line, to_line

UNSENT = Path("multirun") / "unsent"
_LINES, _LOCK, _GIVEN_UP = "journal.jsonl", "lock", "given_up"


class Journal:
    """A run's journal, locked for this process until ``close`` or ``remove``."""

    def __init__(self, folder: Path, lock: TextIOWrapper) -> None:
        """See ``create`` and ``take``."""
        self.folder = folder
        self._lock = lock
        self._lines: FileIO | None = None

    @classmethod
    def create(cls, key: str, entries: Iterable[Entry] = ()) -> Journal:
        """A new one in the current folder.

        Raises:
            OSError: where it cannot be written.
        """
        folder = UNSENT.absolute() / key
        _make(folder)
        lock = _locked(folder)
        if lock is None:
            raise BlockingIOError(f"{folder}: another process is at it")
        journal = cls(folder, lock)
        journal.rewrite(entries)
        return journal

    @classmethod
    def take(cls, folder: Path) -> Journal | None:
        """One that is there, to go on with or to send; None where a living process has it."""
        try:
            lock = _locked(folder)
        except OSError:  # it was sent and removed just now
            return None
        if lock is None:
            return None
        if not (folder / _LINES).exists():  # likewise
            lock.close()
            return None
        return cls(folder, lock)

    @property
    def is_there(self) -> bool:
        """Whether nobody has removed it."""
        return (self.folder / _LINES).exists()

    def read(self) -> list[Entry]:
        """All entries; of a line that was being written when its process was killed nothing.

        Raises:
            ValueError: for a file that is no journal.
        """
        return read(self.folder)

    def append(self, entry: Entry) -> None:
        """Write an entry; what the system has got by then outlives this process.

        Raises:
            OSError: where it cannot be written, a full disk.
        """
        if self._lines is None:
            _cut_unfinished(self.folder / _LINES)
            # Not for others: an address may hold a password.
            opened = os.open(self.folder / _LINES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._lines = FileIO(opened, "a")
        line = f"{to_line(entry)}\n".encode()
        if self._lines.write(line) != len(line):
            raise OSError(errno.ENOSPC, "No space left on device")

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Write all entries anew, synced to the disk; the former file stays until that is done.

        Raises:
            OSError: where they cannot be written.
        """
        self._end_lines()
        new = self.folder / f"{_LINES}.new"
        opened = os.open(new, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o600)
        with open(opened, "w", encoding="utf-8") as file:
            file.writelines(to_line(entry) + "\n" for entry in entries)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.folder / _LINES)

    def close(self, given_up: bool = False) -> None:
        """Leave it for others; what is written stays. ``given_up``: its store was waited for in vain."""
        with suppress(OSError):
            if self._lines is not None:
                os.fsync(self._lines.fileno())
            if given_up:
                (self.folder / _GIVEN_UP).touch()
        self._end_lines()
        self._lock.close()

    def remove(self) -> None:
        """The store has everything: remove the folder, and those around it that are empty."""
        self._end_lines()
        with suppress(OSError):
            # First: without it nothing is sent twice, and nobody takes the folder.
            (self.folder / _LINES).unlink(missing_ok=True)
        self._lock.close()  # NFS keeps a file that is open
        with suppress(OSError):
            shutil.rmtree(self.folder, ignore_errors=True)
            for around in (self.folder.parent, self.folder.parent.parent):
                around.rmdir()

    def _end_lines(self) -> None:
        if self._lines is not None:
            with suppress(OSError):
                self._lines.close()
            self._lines = None


def read(folder: Path) -> list[Entry]:
    """The entries of a journal, see ``Journal.read``; of one that is gone nothing."""
    try:
        lines = (folder / _LINES).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [from_line(line.decode()) for line in lines[:-1]]


def unsent(folder: Path = UNSENT) -> list[Path]:
    """The folders of all journals, in the order of their making; sweeps after their jobs."""

    def order(path: Path) -> tuple[bool, int]:
        first = _first(path)
        return isinstance(first, SweepEnd), first.time if first is not None else 0

    found = folder.glob(f"*/{_LINES}")
    return sorted((path.parent for path in found), key=order)


def was_given_up(folder: Path) -> bool:
    """Whether the store of a journal was waited for in vain."""
    return (folder / _GIVEN_UP).exists()


def not_given_up(folder: Path) -> None:
    """Its store has been reached since."""
    with suppress(OSError):
        (folder / _GIVEN_UP).unlink()


def of_run(run_id: str) -> Path | None:
    """The journal of a run, by its id or its key."""
    for folder in unsent():
        with suppress(OSError, ValueError):  # another user's, or of another version
            for entry in read(folder):
                begun = isinstance(entry, Begin) and entry.key == run_id
                if begun or (isinstance(entry, Begin | Created) and entry.run_id == run_id):
                    return folder
    return None


def _first(folder: Path) -> Begin | SweepEnd | None:
    with suppress(OSError, ValueError), open(folder / _LINES, encoding="utf-8") as lines:
        first = from_line(lines.readline())
        if isinstance(first, Begin | SweepEnd):
            return first
    return None


def _make(folder: Path) -> None:
    for _ in range(100):
        # Another process that has sent its own may just be removing the folders around.
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


def _locked(folder: Path) -> TextIOWrapper | None:
    lock = open(folder / _LOCK, "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:  # a file system without locks
        pass
    return lock


def _cut_unfinished(path: Path) -> None:
    """Take away a last line that has no end."""
    with suppress(FileNotFoundError), open(path, "rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
