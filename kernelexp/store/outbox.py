"""The queue between a training and the store: what is put in is handed over in order by one thread.

Training never waits for it. Whatever goes wrong is tried again, the same entry first, after a pause of
a few seconds, for as long as the run lasts; at its end the store is waited for, up to a limit. Files
that cannot be written where the store keeps files hold nothing else up.
"""

from __future__ import annotations

import errno
import re
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from kernelexp import interrupts
from kernelexp.liveness import HEARTBEAT_TAG, beating
from kernelexp.store.config import TrackingConfig
from kernelexp.store.delivery import Delivery, is_refusal, together
from kernelexp.store.entries import Begin, Created, Entry, Model, Text
from kernelexp.store.opening import open_store
from kernelexp.store.reach import first_line, is_away
from kernelexp.store.record import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAUSES = (1.0, 2.0, 4.0)  # seconds; the last one again and again
# Attempts after which a store that answers, and refuses, is believed.
_REFUSALS = 3
# Seconds: for one more attempt at the end, whatever the patience; before it is told what is waited for.
_LAST_ATTEMPT, _TELL_AFTER = 4.0, 3.0
# Seconds that a request may take of a store that has answered so far, a busy one, whatever the patience.
_SLOW = 20.0


# What a folder says that is not ours to write; not a network.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
# In the long lines of HTTP libraries, what is worth saying.
_SIGNS = {"timed out": "it does not answer", "Connection aborted": "the connection was cut"}


def say(line: str) -> None:
    """A line on stderr, where there is one."""
    with suppress(OSError, ValueError):
        print(f"kernelexp: {line}", file=sys.stderr, flush=True)


class Outbox:
    """What a run has handed over, and has still to.

    Attributes:
        record: all of it.
        sent: how many of its entries the store has.
        run_id: of the run, None until the store has it.
        reason: what the store said last when it did not take an entry.
    """

    def __init__(self, config: TrackingConfig, record: Record, uncertain: bool = False) -> None:
        """``uncertain``: whether the store may have some of the record already."""
        self.config = config
        self.record = record
        self.sent = 0
        self.run_id: str | None = None
        self.reason = "it does not answer"
        self._uncertain = uncertain
        self._delivery: Delivery | None = None
        self._changed = threading.Condition()
        self._away_since: float | None = None
        self._busy_since: float | None = None
        self._failures = 0
        self._refused = False
        self._hurry_until: float | None = None
        self._stopped = False
        self._setting: threading.Thread | None = None
        self._beating = ExitStack()

    def begin(self, client: MlflowClient) -> None:
        """Hand over the run's beginning, now.

        Raises:
            Exception: of the store.
        """
        if self._delivery is None:  # one that was in vain knows to look first
            self._delivery = self._delivered_by(client, self._uncertain)
        while self.record.begin in self.record.entries[self.sent :]:
            self._hand_over()

    def start(self) -> None:
        """Write the journal, hand over what is there and what comes, in the background."""
        try:
            self.record.write()
        except OSError as error:
            say(
                f"warning: multirun/unsent cannot be written ({error.strerror or error}): what the "
                "store does not take while this process runs may be lost"
            )
        self._away_since = None if self.run_id is not None else time.monotonic()
        threading.Thread(target=self._work, daemon=True, name="kernelexp outbox").start()
        self._beating.enter_context(beating(self._beat))

    def put(self, *entries: Entry) -> None:
        """Add entries; returns at once and raises nothing."""
        with self._changed:
            for entry in entries:
                self.record.append(entry)
            self._changed.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait until the store has what was put so far, or does not take it; at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._done() or self._failures > 0, seconds)

    def close(self, seconds: float | None = None) -> bool:
        """Wait until the store has everything; whether it has.

        A store that is away is waited for until it has been away for ``tracking.patience_minutes``, at
        most ``seconds`` where that is given. What it has not got then stays in the journal, and a line
        says so.
        """
        with self._changed:
            began = time.monotonic()
            if seconds is not None:
                self._hurry_until = began + seconds
            self._failures = 0  # the next attempt is now
            self._changed.notify_all()
            told = False
            try:
                while not self._done() and not self._in_vain(began):
                    late = self._away_since and time.monotonic() > began + _TELL_AFTER
                    if late and not told and not self._refused:
                        told = True
                        limit = f"up to {self.config.patience_minutes:g} minutes in all"
                        say(f"the store is away ({self.reason}); waiting for it, {limit}")
                    self._changed.wait(0.2)
            finally:
                self._stopped = True
                self._beating.close()
                self._changed.notify_all()
                self._keep_or_remove()
            return self._done()

    def hurry(self, seconds: float) -> bool:
        """Wait at most so long, and let ``close`` wait no longer; whether the store has everything."""
        with self._changed:
            self._hurry_until = time.monotonic() + seconds
            self._failures = 0
            self._changed.notify_all()
            self._changed.wait_for(self._done, seconds)
            return self._done()

    def set_status(self, status: str, seconds: float) -> None:
        """Set the run's status past the queue, where that stands, once; waits at most so long.

        Two threads may come to it, and SQLite lets one of two that write at once fail.
        """
        delivery = self._delivery
        if delivery is None or delivery.run_id is None:
            return
        client, run_id = delivery.client, delivery.run_id

        def set_it() -> None:
            with suppress(Exception):
                client.set_terminated(run_id, status)

        with self._changed:
            if self._setting is None:
                self._setting = threading.Thread(target=set_it, daemon=True)
                self._setting.start()
        self._setting.join(seconds)

    def _beat(self, sign: str) -> None:
        """A sign of life, past the queue, which a large model may hold up."""
        if self._delivery is not None and self.run_id is not None:
            self._delivery.client.set_tag(self.run_id, HEARTBEAT_TAG, sign)

    def _done(self) -> bool:
        return self.sent == len(self.record.entries)

    def _in_vain(self, began: float) -> bool:
        """Whether to wait no longer."""
        now = time.monotonic()
        if self._hurry_until is None and interrupts.received() is not None:
            self._hurry_until = now + _LAST_ATTEMPT
        if self._hurry_until is not None and now >= self._hurry_until:
            return True
        patience = 60 * self.config.patience_minutes
        if self._away_since is None:
            # A model may take long without anything being wrong.
            if self._busy_since is None or isinstance(self.record.entries[self.sent], Model):
                return False
            return now >= self._busy_since + max(patience, _SLOW)
        if self._refused and self._failures >= _REFUSALS:
            return True
        return now >= max(self._away_since + patience, began + _LAST_ATTEMPT)

    def _keep_or_remove(self) -> None:
        if self._done():
            self.record.remove()
            return
        why = f"run {self.record.begin.name!r} is not all in the store ({self.reason})"
        try:
            self.record.write()
        except OSError as error:
            say(f"{why}, and cannot be kept ({error.strerror or error}): what is missing is lost")
        else:
            kept = f"it is kept in {self.record.place}"
            say(f"{why}; {kept}, python -m kernelexp.store send delivers it")
        self.record.leave(given_up=not self._files_alone())

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self._done())
                if self._stopped:
                    return
            try:
                if self._delivery is None:
                    self._delivery = self._delivered_by(open_store(self.config), True)
                self._hand_over()
            except Exception as error:
                if not self._set_aside(error):
                    self._pause(error)

    def _hand_over(self) -> None:
        """One request, or the few that belong together."""
        assert self._delivery is not None
        with self._changed:
            batch = together(self.record.entries[self.sent :])
            found = [self.record.found(entry) for entry in batch]
            self._busy_since = time.monotonic()
        try:
            self._delivery.deliver(found)
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
        if created not in self.record.entries:
            self.record.insert(self.sent, created)
            self.sent += 1

    def _delivered_by(self, client: MlflowClient, uncertain: bool) -> Delivery:
        return Delivery(client, say, uncertain, living=self.record.begin.key)

    def _set_aside(self, error: Exception) -> bool:
        """Let a file that cannot be written wait for the rest, where there is any; whether it does."""
        with self._changed:
            waits = _is_unwritable(error) or self._failures >= _REFUSALS
            waits = waits and isinstance(self.record.entries[self.sent], (Text, Model))
            waits = waits and not self._files_alone()
            if waits:
                self.record.defer(self.sent)
            return waits

    def _files_alone(self) -> bool:
        return all(isinstance(entry, (Text, Model)) for entry in self.record.entries[self.sent :])

    def _pause(self, error: Exception) -> None:
        with self._changed:
            self.reason = _reason(error)
            self._refused = is_refusal(error) or _is_unwritable(error)
            # All else is there: one file is too large for a server, or its place is not to be written to.
            self._refused |= self._files_alone() and not is_away(error)
            if self._away_since is None:
                self._away_since = time.monotonic()
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._failures += 1
            failures = self._failures
            # ``close`` starts the count anew, and the pause is over.
            self._changed.wait_for(lambda: self._stopped or self._failures != failures, pause)


def _is_unwritable(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


def _reason(error: Exception) -> str:
    """In a few words; of a failed connection what the system said."""
    text = first_line(error)
    for sign, meaning in _SIGNS.items():
        if sign in text:
            return meaning
    said = re.search(r"\[Errno \d+\] ([^'\")]*)", text)
    return said[1].rstrip(": ") if said else text[:200]
