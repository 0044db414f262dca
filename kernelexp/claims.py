"""Who of any number of workers on any machines trains a job: claims, in tags of the experiment.

Lamport's bakery (1974). A worker says that it is choosing, reads all claims to the job, takes a number above
theirs, waits until nobody else is choosing, and has the job if no living claim is lower. Of two, the one whose
number was not there yet when the other looked reads that number afterwards, and takes a higher one: never
do both have it. What this asks of the store is that a write that has returned is seen by every later read. So
it is with SQLite (one file, one writer at a time), with PostgreSQL or MySQL (each request its own transaction,
on one primary) and with a server over either (run: ``tests/test_shared_stores.py``). A job that nobody has any more is free: a claim ends with the
job, or with its process.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernelexp.liveness import GRACE_SECONDS, Process, Watch, sign, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PREFIX = "kernelexp.claim"
# Seconds between looks at who is choosing.
_LOOK = 0.05


class ClaimLost(RuntimeError):
    """Another process has the job: this one gave no sign of life for too long."""


@dataclass(frozen=True)
class _Bid:
    """What a claim says: its number (0: choosing), the last sign of life, and who made it."""

    key: str
    number: int
    beat: str
    process: Process | None

    @classmethod
    def of(cls, key: str, value: str) -> _Bid:
        number, _, rest = value.partition(" ")
        beat, _, process = rest.partition(" ")
        return cls(key, int(number) if number.isdigit() else 0, beat, Process.of(process))


@dataclass
class Claim:
    """This process's claim to a job; as an observer of its run it ends it where the job is another's.

    Attributes:
        client, experiment_id: where it is.
        job: digest of the job's configuration.
        key: its tag.
        number: 0 while it is choosing.
        lost: whether another process has broken it.
    """

    client: MlflowClient
    experiment_id: str
    job: str
    key: str = ""
    number: int = 0
    lost: bool = False
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.key = f"{_PREFIX}.{self.job}.{uuid.uuid4().hex}"

    def write(self, beat: str) -> None:
        """Say so in the store."""
        value = f"{self.number} {beat} {this_process()}"
        self.client.set_experiment_tag(self.experiment_id, self.key, value)

    def renew(self, beat: str) -> None:
        """Give a sign of life, unless the claim was broken."""
        with self._writing:
            began = time.monotonic()
            if self.key not in _tags(self.client, self.experiment_id, self.job):
                self.lost = True
                return
            self.write(beat)
            # Stopped between the two it may have been taken for dead: then this is a second claim. Who did so has
            # made its own before, and is seen; a store that was slow for all leaves this the only one.
            if time.monotonic() - began >= GRACE_SECONDS / 2 and _bids(self):
                self.lost = True
                _remove(self.client, self.experiment_id, self.key)

    def release(self) -> None:
        """Give the job up, or back."""
        with self._writing:
            _remove(self.client, self.experiment_id, self.key)

    def loaded(self) -> None:
        """As ``epoch``."""
        self._check()

    def prepared(self, setup: object) -> None:
        """As ``epoch``."""
        self._check()

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """End the run where the job is another's.

        Raises:
            ClaimLost: then.
        """
        self._check()

    def finished(self, result: object) -> None:
        """Nothing: what is done is done."""

    def _check(self) -> None:
        if self.lost:
            raise ClaimLost(
                f"another process has this job: this one gave no sign of life for {GRACE_SECONDS:.0f} s"
            )


def claim(
    client: MlflowClient, experiment_id: str, job: str, watch: Watch
) -> Claim | Process | None:
    """Claim a job, once: the claim, or who has it; None where another has just come first.

    Raises:
        Exception: of the store.
    """
    own, began = Claim(client, experiment_id, job), time.monotonic()
    if holder := _first(_others(own, watch)):
        return holder.process
    own.write(sign())
    try:
        own.number = 1 + max((bid.number for bid in _bids(own)), default=0)
        own.write(sign())
        others = _others(own, watch)
        while not all(bid.number for bid in others):
            time.sleep(_LOOK)
            others = _others(own, watch)
        lower = _first([bid for bid in others if (bid.number, bid.key) < (own.number, own.key)])
        # A process that was stopped meanwhile may have been taken for dead, and its number for free.
        if lower is None and time.monotonic() - began < GRACE_SECONDS / 2:
            return own
    except BaseException:
        own.release()
        raise
    own.release()
    return lower.process if lower is not None else None


def remove_dead(client: MlflowClient, experiment_id: str, watch: Watch) -> None:
    """Remove the claims of processes that are no more."""
    for key, value in _tags(client, experiment_id).items():
        bid = _Bid.of(key, value)
        if watch.is_dead(key, bid.process, bid.beat):
            _remove(client, experiment_id, key)


def _bids(own: Claim) -> list[_Bid]:
    """All claims to the job but this one."""
    tags = _tags(own.client, own.experiment_id, own.job)
    return [_Bid.of(key, value) for key, value in tags.items() if key != own.key]


def _others(own: Claim, watch: Watch) -> list[_Bid]:
    """Those of the living; the dead's are removed, and what this process could not give back."""
    living, here = [], this_process()
    for bid in _bids(own):
        if bid.process == here or watch.is_dead(bid.key, bid.process, bid.beat):
            _remove(own.client, own.experiment_id, bid.key)
        else:
            living.append(bid)
    return living


def _first(bids: list[_Bid]) -> _Bid | None:
    """The one that has, or will have, the job."""
    chosen = [bid for bid in bids if bid.number]
    return min(chosen, key=lambda bid: (bid.number, bid.key), default=None)


def _tags(client: MlflowClient, experiment_id: str, job: str = "") -> dict[str, str]:
    tags = client.get_experiment(experiment_id).tags
    start = f"{_PREFIX}.{job}"
    return {key: value for key, value in tags.items() if key.startswith(start)}


def _remove(client: MlflowClient, experiment_id: str, key: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_experiment_tag(experiment_id, key)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
