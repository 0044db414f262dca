"""The queue between a training and the store: what is put in is handed over in order by one thread.

Training never waits for it. Whatever goes wrong is tried again, the same entry first, after a pause of
a few seconds, for as long as the run lasts; at its end the store is waited for, up to a limit. All
that is put in is also in a journal, which outlives this process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.store.config import TrackingConfig
from kernelexp.store.delivery import Delivery, together, within
from kernelexp.store.entries import Begin, Created, End, Entry, Model
from kernelexp.store.journal import Journal
from kernelexp.store.opening import open_store
from kernelexp.store.reach import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAUSES = (1.0, 2.0, 4.0)  # seconds; the last one again and again
# Attempts after which a store that answers, and refuses, is believed.
_REFUSALS = 3
# Seconds: for one more attempt at the end, whatever the patience; before it is told what is waited for.
_LAST_ATTEMPT, _TELL_AFTER = 5.0, 3.0


def say(line: str) -> None:
    """A line on stderr, where there is one."""
    with suppress(OSError, ValueError):
        print(f"kernelexp: {line}", file=sys.stderr, flush=True)


def _quietly(call: Callable[[str, str], None], run_id: str, status: str) -> None:
    with suppress(Exception):
        call(run_id, status)


class Outbox:
    """What a run has handed over, and has still to.

    Attributes:
        entries: all, in order.
        sent: how many of them the store has.
        begun: set once the store has the run.
    """

    def __init__(
        self,
        config: TrackingConfig,
        entries: Sequence[Entry],
        journal: Journal | None = None,
    ) -> None:
        """``journal``: one that is there and holds the first of the entries; None: a new one."""
        self.config = config
        self.entries = list(entries)
        self.sent = 0
        self.begun = threading.Event()
        self.run_id: str | None = None
        self.reason = ""
        self._journal = journal
        self._adopted = journal is not None
        self._whole = False  # the journal holds all entries
        self._delivery: Delivery | None = None
        self._changed = threading.Condition()
        self._away_since: float | None = None
        self._busy_since: float | None = None
        self._failures = 0
        self._refused = False
        self._hurry_until: float | None = None
        self._stopped = False

    @property
    def key(self) -> str:
        """Of the run, as long as the store has given it no id."""
        return next(entry.key for entry in reversed(self.entries) if isinstance(entry, Begin))

    @property
    def ended(self) -> bool:
        """Whether the run's end is put in."""
        return any(isinstance(entry, End) for entry in self.entries)

    def first(self, client: MlflowClient) -> None:
        """Hand over the run's beginning, now.

        Raises:
            Exception: of the store.
        """
        self._delivery = Delivery(client, say, self._adopted)
        begins = [place for place, entry in enumerate(self.entries) if isinstance(entry, Begin)]
        while self.sent <= begins[-1]:
            self._hand_over()

    def write_down(self) -> None:
        """Begin the journal."""
        with self._changed:
            try:
                self._write_all()
            except OSError as error:
                say(
                    f"warning: multirun/unsent cannot be written ({error.strerror or error}): what "
                    "the store does not take at once would be lost with this process"
                )

    def start(self) -> None:
        """Hand over what is there and what comes, in the background."""
        self._away_since = None if self._delivery is not None else time.monotonic()
        threading.Thread(target=self._work, daemon=True, name="kernelexp outbox").start()

    def put(self, *entries: Entry) -> None:
        """Add entries; returns at once and raises nothing."""
        with self._changed:
            for entry in entries:
                self.entries.append(entry)
                self._note(entry)
            self._changed.notify_all()

    def model_folder(self) -> Path:
        """Where a model's files are to be written, before its entry is put in."""
        if self._journal is not None and self._whole:
            return self._journal.folder / "model"
        return Path(tempfile.mkdtemp(prefix="kernelexp-")) / "model"

    def close(self, hurried: float | None = None) -> bool:
        """Wait until the store has everything; whether it has.

        A store that is away is waited for until it has been away for ``tracking.patience_minutes``, at
        most ``hurried`` seconds where that is given. What it has not got then stays in the journal.
        """
        with self._changed:
            began = time.monotonic()
            if hurried is not None:
                self._hurry_until = began + hurried
            self._failures = 0
            self._changed.notify_all()
            told = False
            try:
                while not self._done() and not self._in_vain(began):
                    if not told and self._away(began):
                        self._tell_waiting()
                        told = True
                    self._changed.wait(0.2)
            finally:
                self._stopped = True
                self._changed.notify_all()
                self._keep_or_remove()
            return self._done()

    def placed(self, folder: Path) -> str:
        """How an entry names a model's folder: within that of the journal where it is there."""
        within_journal = self._journal is not None and folder.parent == self._journal.folder
        return folder.name if within_journal else str(folder)

    def end_now(self, status: str, seconds: float) -> None:
        """Set the run's status past the queue, which stands; waits at most so long."""
        delivery = self._delivery
        if delivery is None or delivery.run_id is None:
            return
        set_terminated, run_id = delivery.client.set_terminated, delivery.run_id
        thread = threading.Thread(
            target=lambda: _quietly(set_terminated, run_id, status), daemon=True
        )
        thread.start()
        thread.join(seconds)

    def hurry(self, seconds: float) -> bool:
        """Wait at most so long, and let ``close`` wait no longer; whether the store has everything."""
        until = time.monotonic() + seconds
        with self._changed:
            self._hurry_until = until
            self._changed.notify_all()
            self._changed.wait_for(self._done, seconds)
            return self._done()

    def _done(self) -> bool:
        return self.sent == len(self.entries)

    def _away(self, began: float) -> bool:
        return self._away_since is not None and time.monotonic() > began + _TELL_AFTER

    def _in_vain(self, began: float) -> bool:
        """Whether to wait no longer."""
        now = time.monotonic()
        if self._hurry_until is not None and now >= self._hurry_until:
            return True
        since = self._away_since
        if since is None and self._busy_since is not None and not self._at_a_model():
            since = self._busy_since
        if since is None:
            return False
        if self._refused and self._failures >= _REFUSALS:
            return True
        patience = 60 * self.config.patience_minutes
        return now >= max(since + patience, began + _LAST_ATTEMPT)

    def _at_a_model(self) -> bool:
        """Which may take long without anything being wrong."""
        return self.sent < len(self.entries) and isinstance(self.entries[self.sent], Model)

    def _tell_waiting(self) -> None:
        minutes = self.config.patience_minutes
        say(f"the store is away ({self.reason}); waiting for it, up to {minutes:g} minutes in all")

    def _keep_or_remove(self) -> None:
        if self._done():
            if self._journal is not None:
                self._journal.remove()
            return
        name = next(e.name for e in reversed(self.entries) if isinstance(e, Begin))
        why = f"run {name!r} is not all in the store ({self.reason or 'it does not answer'})"
        try:
            if not self._whole:
                self._write_all()
        except OSError as error:
            say(f"{why}, and cannot be kept ({error.strerror or error}): what is missing is lost")
        else:
            say(f"{why}; it is kept in {self._shown()}, python -m kernelexp.store send delivers it")
        if self._journal is not None:
            self._journal.close()

    def _write_all(self) -> None:
        if self._journal is None:
            self._journal = Journal.create(self.key)
        self.entries = [self._moved_within(entry, self._journal) for entry in self.entries]
        self._journal.rewrite(self.entries)
        self._whole = True

    def _moved_within(self, entry: Entry, journal: Journal) -> Entry:
        """Of a model that lies elsewhere, since there was no journal when it was made."""
        if not isinstance(entry, Model) or not Path(entry.folder).is_absolute():
            return entry
        shutil.copytree(entry.folder, journal.folder / "model", dirs_exist_ok=True)
        return Model("model")

    def _shown(self) -> str:
        assert self._journal is not None
        with suppress(ValueError):
            return str(self._journal.folder.relative_to(Path.cwd()))
        return str(self._journal.folder)

    def _note(self, entry: Entry) -> None:
        """Into the journal; where that fails, the disk is full, all is written anew at the end."""
        if self._journal is None or not self._whole:
            return
        try:
            self._journal.append(entry)
        except OSError:
            self._whole = False

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self._done())
                if self._stopped:
                    return
            try:
                if self._delivery is None:
                    self._delivery = Delivery(open_store(self.config), say, uncertain=True)
                self._hand_over()
            except Exception as error:
                self._pause(error)

    def _hand_over(self) -> None:
        """One request, or the few that belong together."""
        assert self._delivery is not None
        with self._changed:
            batch = together(self.entries[self.sent :])
            folder = self._journal.folder if self._journal is not None else Path()
            self._busy_since = time.monotonic()
        try:
            self._delivery.deliver([within(entry, folder) for entry in batch])
        finally:
            self._busy_since = None
        with self._changed:
            self.sent += len(batch)
            self._away_since, self._failures, self._refused = None, 0, False
            if isinstance(batch[0], Begin):
                self._know(self._delivery.run)
            self._changed.notify_all()

    def _know(self, run_id: str) -> None:
        self.run_id = run_id
        created = Created(run_id)
        if created not in self.entries:
            self.entries.insert(self.sent, created)
            self.sent += 1
            self._note(created)
        self.begun.set()

    def _pause(self, error: Exception) -> None:
        with self._changed:
            self.reason = first_line(error)[:200]
            self._refused = _is_refusal(error)
            if self._away_since is None:
                self._away_since = time.monotonic()
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._failures += 1
            failures = self._failures
            # ``close`` starts the count anew, and the pause is over.
            self._changed.wait_for(lambda: self._stopped or self._failures != failures, pause)


def _is_refusal(error: Exception) -> bool:
    """Whether MLflow itself refused an entry, a run that was deleted; not a server in its place."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or "API request to" in str(error):
        return False
    return error.error_code in (
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "PERMISSION_DENIED",
    )
