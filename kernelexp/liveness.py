"""Which processes are alive: by their ids where they can be seen, else by signs of life in the store.

Clocks of machines differ, so a sign is not compared with the reader's clock: who has seen the same one for
three of its periods, by his own clock, knows that nobody renews it. Only one of a day ago counts at once: a store may
have been away for hours.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROCESS_TAG, HEARTBEAT_TAG = "process", "heartbeat"
# Seconds: between two signs; without a new one, until a process counts as dead.
BEAT_SECONDS, GRACE_SECONDS = 30.0, 90.0
# When a process started, where the system does not say.
_UNKNOWN = "unknown"
# Of a sign that counts as old at once; clocks do not differ by that much.
_LONG_AGO = 24 * 3600.0
_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Process:
    """A process of any machine.

    Attributes:
        host: name of its machine, and what tells machines and containers of one name apart.
        pid: its id there.
        started: when it did, in clock ticks since boot, which tells it from a later one of the same id.
    """

    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.started}"

    @classmethod
    def of(cls, text: str) -> Process | None:
        """What ``str`` gave; None for what others wrote."""
        ours = re.fullmatch(r"(\S+) (\d{1,10}) (\S+)", text)
        return cls(ours[1], int(ours[2]), ours[3]) if ours else None

    @property
    def is_near(self) -> bool:
        """Whether its id means the same here: one machine, and one namespace of ids on it."""
        return self.host == this_host()

    @property
    def is_gone(self) -> bool:
        """Whether it is near, and no more."""
        started = _started(self.pid) if self.is_near else _UNKNOWN
        return started is None or (
            _UNKNOWN not in (started, self.started) and started != self.started
        )


def this_process() -> Process:
    """This one."""
    return Process(this_host(), os.getpid(), _started(os.getpid()) or _UNKNOWN)


@cache
def this_host() -> str:
    """Name, boot and namespace of process ids, as far as the system tells."""
    name = socket.gethostname()
    try:
        namespace = re.sub(r"\D", "", os.readlink(_NAMESPACE))
        return f"{name}/{_BOOT.read_text()[:8]}/{namespace}"
    except OSError:  # not Linux
        return name


def sign() -> str:
    """A sign of life: the seconds since 1970."""
    return str(int(time.time()))


class Watch:
    """What this process has seen of others' signs of life."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: in seconds."""
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}

    def is_dead(self, key: str, process: Process | None, beat: str | None) -> bool:
        """Whether who holds ``key``, and last gave the sign ``beat``, is no more, or has been stopped.

        Of processes that are not ours, or give no signs, nothing is known but what ids tell.
        """
        if process is None or process == this_process():
            return False
        if process.is_gone:
            return True
        if beat is None:
            return False
        now = self._clock()
        former, since = self._seen.get(key, ("", now))
        if former != beat:
            self._seen[key] = beat, now
            since = now
        return now - since > GRACE_SECONDS or (not process.is_near and _age(beat) > _LONG_AGO)


@contextmanager
def beating(give: Callable[[str], None]) -> Iterator[None]:
    """Give a sign every 30 seconds, by a thread; one that fails is left out."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with suppress(Exception):
                give(sign())

    threading.Thread(target=beat, daemon=True, name="kernelexp heartbeat").start()
    try:
        yield
    finally:
        over.set()


def _age(beat: str) -> float:
    return time.time() - int(beat) if beat.isdigit() else 0.0


def _started(pid: int) -> str | None:
    """When a process of this machine started, None where there is no such process.

    Where the system does not say (no /proc, or another user's is hidden), ``unknown``.
    """
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it is another user's
        pass
    return _UNKNOWN
