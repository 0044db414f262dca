"""All that a run hands to the store, in memory and, where that can be written, in its journal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kernelexp.store.entries import Begin, End, Entry, Model
from kernelexp.store.journal import Journal


class Record:
    """The entries of a run in order; not for several threads at once.

    Attributes:
        entries: all of them.
    """

    def __init__(self, entries: Sequence[Entry], journal: Journal | None = None) -> None:
        """``journal``: one that is there and holds the first of the entries; None: a new one."""
        self.entries = list(entries)
        self._journal = journal
        self._whole = False  # the journal holds all entries

    @property
    def begin(self) -> Begin:
        """How the run began, the last time it did."""
        return next(entry for entry in reversed(self.entries) if isinstance(entry, Begin))

    @property
    def ended(self) -> bool:
        """Whether the run's end is among the entries."""
        return any(isinstance(entry, End) for entry in self.entries)

    def append(self, entry: Entry) -> None:
        """Add an entry; where the journal cannot take it, the disk is full, ``write`` is to do it."""
        self.insert(len(self.entries), entry)

    def insert(self, place: int, entry: Entry) -> None:
        """Add an entry whose place among the others does not matter to the journal."""
        self.entries.insert(place, entry)
        if self._journal is None or not self._whole:
            return
        try:
            self._journal.append(entry)
        except OSError:
            self._whole = False

    def write(self) -> None:
        """Make sure that the journal holds everything, synced to the disk.

        Raises:
            OSError: where it cannot be written.
        """
        there = self._journal is not None and self._journal.is_there
        if there and self._whole:
            return
        if self._journal is None or not there:
            self.leave(given_up=False)
            self._journal = Journal.create(self.begin.key)
        self.entries = [self._moved_within(entry, self._journal) for entry in self.entries]
        self._journal.rewrite(self.entries)
        self._whole = True

    def defer(self, place: int) -> None:
        """Hand an entry over after all others that are there; in the journal it stays where it was."""
        self.entries.append(self.entries.pop(place))

    def leave(self, given_up: bool = True) -> None:
        """The journal is for others from here on; ``given_up``: the store was waited for in vain."""
        if self._journal is not None:
            self._journal.close(given_up=given_up)

    def remove(self) -> None:
        """The store has everything."""
        for entry in self.entries:
            if isinstance(entry, Model) and Path(entry.folder).is_absolute():
                shutil.rmtree(Path(entry.folder).parent, ignore_errors=True)
        if self._journal is not None:
            self._journal.remove()

    @property
    def place(self) -> str:
        """Where the journal is, as a person in the current folder would say it."""
        assert self._journal is not None
        with suppress(ValueError):
            return str(self._journal.folder.relative_to(Path.cwd()))
        return str(self._journal.folder)

    def model_folders(self) -> Iterator[Path]:
        """Where a model's files are to be written, before its entry is added; then, where else."""
        if self._journal is not None and self._whole:
            yield self._journal.folder / "model"
        yield Path(tempfile.mkdtemp(prefix="kernelexp-")) / "model"

    def model(self, folder: Path) -> Model:
        """The entry of a model in ``folder``."""
        within = self._journal is not None and folder.parent == self._journal.folder
        return Model(folder.name if within else str(folder))

    def found(self, entry: Entry) -> Entry:
        """The entry, with a model's place made absolute."""
        if not isinstance(entry, Model) or self._journal is None:
            return entry
        return replace(entry, folder=str(self._journal.folder / entry.folder))

    def _moved_within(self, entry: Entry, journal: Journal) -> Entry:
        """Of a model that lies elsewhere, since there was no journal when it was made."""
        if not isinstance(entry, Model) or not Path(entry.folder).is_absolute():
            return entry
        shutil.copytree(entry.folder, journal.folder / "model", dirs_exist_ok=True)
        return Model("model")
