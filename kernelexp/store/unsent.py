"""Runs that the store has not got, in ``multirun/unsent``: handed over once it is back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.resume import PARENT_TAG, is_alive
from kernelexp.store.config import TrackingConfig
from kernelexp.store.delivery import ERROR_TAG, Delivery, is_refusal, together, within
from kernelexp.store.entries import Begin, End, Entry, Metrics, Model, SweepEnd, Text
from kernelexp.store.journal import Journal, not_given_up, read, unsent, was_given_up
from kernelexp.store.opening import open_store
from kernelexp.store.outbox import say
from kernelexp.store.reach import first_line, is_away

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Kept:
    """A journal in ``multirun/unsent``, as it was read.

    Attributes:
        folder: where it lies.
        begin: its first entry.
        entries: all of them.
    """

    folder: Path
    begin: Begin | SweepEnd
    entries: list[Entry]

    @property
    def store(self) -> TrackingConfig:
        """Where it is to go."""
        return TrackingConfig(uri=self.begin.uri, experiment=self.begin.experiment)

    @property
    def shown(self) -> str:
        """What it is, in words."""
        if isinstance(self.begin, SweepEnd):
            return f"the end of sweep {self.begin.parent}"
        return f"run {self.begin.name}"


def kept() -> list[Kept]:
    """All that can be read, sweeps after their jobs."""
    found = []
    for folder in unsent():
        with suppress(OSError, ValueError):
            entries = read(folder)
            if entries and isinstance(entries[0], Begin | SweepEnd):
                found.append(Kept(folder, entries[0], entries))
    return found


def unreadable() -> list[str]:
    """A line for each that cannot be read, as what another version of this program has written."""
    lines = []
    for folder in unsent():
        try:
            read(folder)
        except (OSError, ValueError) as error:
            lines.append(f"{folder} cannot be read ({first_line(error)})")
    return lines


def given_up(uri: str) -> bool:
    """Whether a run waited for this store in vain, and it was not reached since."""
    return any(one.begin.uri == uri and was_given_up(one.folder) for one in kept())


def reached(uri: str) -> None:
    """It was: what is kept for it is waited for again."""
    for one in kept():
        if one.begin.uri == uri:
            not_given_up(one.folder)


def send(one: Kept, client: MlflowClient) -> str | None:
    """Hand a run over and remove what was kept; a line of what it was, None where it is being written.

    Done again, or after a kill in between, the store ends the same.

    Raises:
        Exception: of the store; all is kept.
    """
    journal = Journal.take(one.folder)
    if journal is None:
        return None
    try:
        entries = journal.read()
        delivery = Delivery(client, say, uncertain=True)
        left = [within(entry, one.folder) for entry in entries]
        left.sort(key=lambda entry: isinstance(entry, Text | Model))  # which a store may not take
        while left:
            batch = together(left)
            delivery.deliver(batch)
            left = left[len(batch) :]
        status = _end_of_killed(delivery, entries)
    except BaseException:
        journal.close()
        raise
    journal.remove()
    return f"{_what(entries)} delivered to run {delivery.run_id}, {status}"


def send_of_sweep(parent: str, client: MlflowClient) -> None:
    """Hand over the runs of a sweep that were kept while its store was away.

    Raises:
        Exception: of a store that is away; what it does not take is told and kept.
    """
    for one in kept():
        if isinstance(one.begin, Begin) and one.begin.tags.get(PARENT_TAG) == parent:
            try:
                send(one, client)
            except Exception as error:
                if is_away(error) and not is_refusal(error):
                    raise
                say(f"{one.shown} is still kept in {one.folder} ({first_line(error)})")


def send_all(uri: str, hand_over: Callable[[Kept], str | None]) -> None:
    """Hand over all that was kept for a store, as far as it takes it, and say so."""
    for one in kept():
        if one.begin.uri == uri:
            try:
                line = hand_over(one)
            except Exception as error:
                line = f"{one.shown} is still kept in {one.folder} ({first_line(error)})"
            if line is not None:
                say(line)


def open_for(one: Kept) -> MlflowClient:
    """The store that a run is to go to.

    Raises:
        ValueError: if it cannot be opened.
    """
    return open_store(one.store)


def _end_of_killed(delivery: Delivery, entries: list[Entry]) -> str:
    """The run's status; a run without an end was killed, if its process is no more."""
    run = delivery.client.get_run(delivery.run)
    ended = any(isinstance(entry, End) for entry in entries)
    if not ended and run.info.status == "RUNNING" and not is_alive(run):
        delivery.client.set_terminated(delivery.run, "KILLED", _last_time(entries))
        delivery.client.set_tag(delivery.run, ERROR_TAG, "its process ended without a word")
        return "KILLED"
    return str(run.info.status)


def _last_time(entries: list[Entry]) -> int:
    return max(entry.time for entry in entries if isinstance(entry, Begin | Metrics))


def _what(entries: list[Entry]) -> str:
    steps = {entry.step for entry in entries if isinstance(entry, Metrics) and entry.step}
    name = next(e.name for e in reversed(entries) if isinstance(e, Begin))
    model = " and its model" if any(isinstance(entry, Model) for entry in entries) else ""
    return f"{name}: metrics of {len(steps)} epochs{model}"
