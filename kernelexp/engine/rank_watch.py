"""Whether the ranks of a group live: a thread in each, by way of a store of PyTorch's beside the collectives.

A rank that dies closes its connections, so that those it works with see an error at once; one that is stopped,
or whose machine is gone, does not. So each rank counts up in the store every two seconds, and one whose count
stands still for twenty is lost. Whoever finds that ends itself, rank 0 with the word of which rank it was.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable

from torch.distributed import TCPStore  # type: ignore[attr-defined]

# Seconds: between signs of life; without one until a rank is lost; for an error to be named, or to come up in
# the thread that works.
_BEAT, _GRACE, _NAMING, _LAST = 2.0, 20.0, 4.0, 5.0
_SILENT = f"has given no sign of life for {_GRACE:.0f} seconds"


class Watch:
    """One rank's eye on the others.

    Attributes:
        store: where they meet.
        rank, size: of this one.
        lost: the sentence for a rank that is.
    """

    def __init__(
        self,
        store: TCPStore,
        rank: int,
        size: int,
        children: Callable[[], Iterable[tuple[int, str]]] = lambda: (),
        end_children: Callable[[], None] = lambda: None,
    ) -> None:
        """``children``: those that this process started and that have ended, with how; ``end_children``: end all."""
        self.store, self.rank, self.size = store, rank, size
        self.lost: str | None = None
        self._children, self._end_children = children, end_children
        self._own = store.clone()  # a connection that the working thread does not hold
        self._found, self._closed = threading.Event(), threading.Event()
        store.set(f"who/{rank}", f"process {os.getpid()} on {socket.gethostname()}")
        self._known: dict[int, str] = {}  # ranks by name
        self._looked = time.monotonic()
        for look in (self._run, self._guard):
            threading.Thread(target=look, daemon=True, name="ranks").start()

    def close(self) -> None:
        """Others must not miss this rank any more."""
        with contextlib.suppress(RuntimeError):  # the store may be gone
            self.store.set(f"left/{self.rank}", "")
        self._closed.set()

    def fail(self, generation: int, error: BaseException) -> None:
        """Tell why this rank leaves what all are at."""
        text = " ".join(str(error).split()) or type(error).__name__
        with contextlib.suppress(RuntimeError):
            self.store.set(f"failed/{generation}/{self.rank}", text)

    def tell_exhausted(self, generation: int) -> None:
        """This rank has run out of memory, unless another was the first."""
        if not self.is_exhausted(generation):
            self.store.set(f"exhausted/{generation}", str(self.rank))

    def is_exhausted(self, generation: int) -> bool:
        """Whether a rank has."""
        return bool(self.store.check([f"exhausted/{generation}"]))

    def tell_abandoned(self, generation: int) -> None:
        """This rank leaves what all are at."""
        self.store.set(f"abandoned/{generation}", "")

    def is_abandoned(self, generation: int) -> bool:
        """Whether one has left it."""
        return bool(self.store.check([f"abandoned/{generation}"]))

    def reason(self, generation: int, error: str) -> tuple[str, bool]:
        """Why a collective has failed, in a sentence, and whether a rank ran out of memory."""
        until = time.monotonic() + _NAMING
        with contextlib.suppress(RuntimeError):
            while time.monotonic() < until and not self._found.is_set():
                if self.is_exhausted(generation) or self.is_abandoned(generation):
                    break
                if self._failed(generation) is not None:
                    break
                self._found.wait(0.1)
            if self.is_exhausted(generation):
                rank = int(self.store.get(f"exhausted/{generation}"))
                return f"rank {rank} of {self.size} ({self._who(rank)}) has run out of memory", True
            if (failed := self._failed(generation)) is not None:
                what = str(self.store.get(f"failed/{generation}/{failed}"), "utf-8")
                return f"rank {failed} of {self.size} ({self._who(failed)}) failed: {what}", False
        return self.lost or f"a rank of {self.size} is lost ({error})", False

    def wait_for_its_word(self) -> None:
        """Until it ends this process with the word of which rank is lost."""
        self._closed.wait(_GRACE + _LAST)

    def _failed(self, generation: int) -> int | None:
        ranks = range(self.size)
        return next((r for r in ranks if self.store.check([f"failed/{generation}/{r}"])), None)

    def _who(self, rank: int) -> str:
        return str(self.store.get(f"who/{rank}"), "utf-8")

    def _run(self) -> None:
        seen: dict[int, tuple[bytes, float]] = {}
        beats = 0
        while not self._closed.wait(_BEAT if beats else 0):
            beats += 1
            try:
                gone = self._silent(seen, beats) or next(iter(self._children()), None)
                self._looked = time.monotonic()
                if gone is not None:
                    # Whose name comes first; that others end then follows from it.
                    self._own.compare_set("lost", "", self._sentence(*gone))
                    sentence = str(self._own.get("lost"), "utf-8")
            except RuntimeError:  # the store is with rank 0, or with what started all of them
                gone = 0, "is gone, and with it where the ranks meet"
                sentence = self._sentence(*gone)
            if gone is not None and not self._closed.is_set():
                self._end(gone[0], sentence)
                return

    def _guard(self) -> None:
        """A store that does not answer is that of a rank 0 that is stopped."""
        while not self._closed.wait(_BEAT):
            if time.monotonic() - self._looked > _GRACE:
                self._end(0, self._sentence(0, _SILENT))
                return

    def _sentence(self, rank: int, how: str) -> str:
        who = f" ({self._known[rank]})" if rank in self._known else ""
        return f"rank {rank} of {self.size}{who} {how}; the same command again goes on from the last checkpoint"

    def _silent(self, seen: dict[int, tuple[bytes, float]], beats: int) -> tuple[int, str] | None:
        """Count up; a rank that has not for too long."""
        self._own.set(f"beat/{self.rank}", str(beats))
        now = time.monotonic()
        for rank in range(self.size):
            if rank == self.rank or self._own.check([f"left/{rank}"]):
                continue
            if rank not in self._known and self._own.check([f"who/{rank}"]):
                self._known[rank] = str(self._own.get(f"who/{rank}"), "utf-8")
            known = self._own.check([f"beat/{rank}"])
            count = self._own.get(f"beat/{rank}") if known else b""
            if rank not in seen or seen[rank][0] != count:
                seen[rank] = count, now
            elif known and now - seen[rank][1] > _GRACE:
                return rank, _SILENT
        return None

    def _end(self, rank: int, sentence: str) -> None:
        """A rank is lost: end those that this process started, and this process."""
        self.lost = sentence
        self._found.set()
        self._end_children()
        if not self.rank and self._closed.wait(_LAST):
            return  # the thread that works has had an error, and says it
        if not self.rank or (rank == 0 and self.rank == 1):
            print(f"kernelexp: {self.lost}", file=sys.stderr, flush=True)
        os._exit(1)
