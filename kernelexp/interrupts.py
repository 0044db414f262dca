"""Signals that end the program: a flag, looked at between rounds, and a deadline where nobody looks.

A signal raises nothing where it strikes, which may be deep in a library. The handlers set a flag, and
``check`` raises ``Interrupted`` where the program can end in order. A thread, woken by Python's signal
handler in C and so also while the main thread is in a long call of a library, counts the seconds: who
has not come to ``check`` by then is ended here, the run marked through the callbacks of ``on_end``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Batch systems give some seconds between SIGTERM and SIGKILL; all that is below takes less than ten.
GRACE_SECONDS = 6.0
_WORKER_GRACE_SECONDS = 4.0  # before its launcher, which then still finds out how its jobs ended
_LAST_WORDS_SECONDS = 3.0
_LOOK_SECONDS = 0.5
_LAUNCHER_VARIABLE = "KERNELEXP_LAUNCHER"  # its process id, for workers that start after its end
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(BaseException):
    """The program was asked to end by a signal.

    No ``Exception``, so that who catches those lets it pass.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """As shells have it: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signal

    def __str__(self) -> str:
        return f"interrupted ({signal.Signals(self.signal).name})"


def install(worker: bool = False) -> None:
    """Take the signals from here on; those that the process ignores (``nohup``) it goes on to ignore.

    Until the first ``on_end`` a signal ends the program at once: nothing is recorded yet. Outside the
    main thread, which alone can have handlers, nothing happens.

    ``worker``: in a process of a launcher, which runs jobs and not the program. It is also ended when
    the launcher is gone. Where the handlers are there already, nothing happens.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread() or (worker and _watch is not None):
        return
    if _watch is not None:
        _watch.wakened.close()
    _watch = _Watch(worker)


def check() -> None:
    """End here if a signal has come.

    Raises:
        Interrupted: the first signal that came.
    """
    if (stop := received()) is not None:
        raise stop


def received() -> Interrupted | None:
    """The first signal that came, as ``check`` would raise it."""
    return None if _watch is None or _watch.signal is None else Interrupted(_watch.signal)


def requeue(stop: Interrupted) -> None:
    """Where a cluster's scheduler has asked for it, let submitit queue this job again, which ends the process."""
    if _watch is not None and _watch.requeues is not None and stop.signal == _requeue_signal():
        _watch.requeues(stop.signal, None)


def _requeue_signal() -> int | None:
    """What submitit takes as the end of a job's time on its machine; None outside of its jobs."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    return getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"), None)


def in_worker() -> bool:
    """Whether this process is one of a launcher's."""
    return _watch is not None and _watch.worker


@contextmanager
def on_end(callback: Callable[[str], object]) -> Iterator[None]:
    """Within it, ``callback(reason)`` is called where the program is ended from outside the main thread.

    It has three seconds, in a thread of its own.
    """
    if _watch is None:
        yield
        return
    with _watch.lock:
        _watch.recording = True
        _watch.callbacks.append(callback)
    try:
        yield
    finally:
        with _watch.lock:
            _watch.callbacks.remove(callback)


def hold_for_workers() -> None:
    """Let processes that are started from here on keep a signal until they ``install``.

    A worker that dies while it starts would take all others along. The mask of blocked signals is
    inherited; in this process the watching thread goes on to take them. For children of this process.
    """
    if _watch is not None and hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        os.environ[_LAUNCHER_VARIABLE] = str(os.getpid())
        resource_tracker.ensure_running()  # which unblocks them as it starts, in Python 3.11
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def ignore_more() -> None:
    """Where a signal has ended the program: let no second one change how it leaves, now that all is said."""
    if received() is not None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


class _Watch:
    """What came, and the thread that waits for it."""

    def __init__(self, worker: bool) -> None:
        self.worker = worker
        self.signal: int | None = None
        self.deadline: float | None = None
        self.interrupts = 0
        self.recording = worker
        self.callbacks: list[Callable[[str], object]] = []
        self.lock = threading.Lock()
        self.parent = int(os.environ.get(_LAUNCHER_VARIABLE, os.getppid()))
        # What submitit does at its signal. No deadline: it gives minutes, and who is ended is not queued again.
        self.requeues: Callable[[int, FrameType | None], object] | None = None
        self.orphan = False
        self.wakes, self.wakened = socket.socketpair()
        self.wakened.setblocking(False)
        signal.set_wakeup_fd(self.wakened.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        if worker and (number := _requeue_signal()) is not None:
            former = signal.signal(number, self._handle)
            self.requeues = former if callable(former) else None
        threading.Thread(target=self._run, name="interrupts", daemon=True).start()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # In the main thread between two of its instructions, which may hold the lock: no more than this.
        if self.signal is None:
            self.signal = number

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        while True:
            self.wakes.settimeout(self._patience())
            try:
                came = self.wakes.recv(64)
                if not came:  # closed by ``install``
                    return
            except TimeoutError:
                came = b""
            for number in came:
                if number in _SIGNALS:
                    self._take(number)
            if self.worker and not self.orphan and os.getppid() != self.parent:
                self.orphan = True
                self._take(signal.SIGTERM)
            if self.deadline is not None:
                self._pass_on()
                self._look(self.deadline)

    def _patience(self) -> float | None:
        """How long to wait for the next signal; for ever, where there is nothing else to look at."""
        if self.deadline is None:
            return _LOOK_SECONDS if self.worker else None
        return min(_LOOK_SECONDS, max(0.01, self.deadline - time.monotonic()))

    def _take(self, number: int) -> None:
        if self.signal is None:
            self.signal = number
        if self.deadline is None:
            grace = _WORKER_GRACE_SECONDS if self.worker else GRACE_SECONDS
            self.deadline = time.monotonic() + grace
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            self._end("pressed twice, ended at once")

    def _pass_on(self) -> None:
        """To a launcher's workers, again and again, since one may just be starting; the first counts."""
        _send(signal.SIGTERM)

    def _look(self, deadline: float) -> None:
        with self.lock:
            if not self.recording:
                self._end("")
        if self.worker and not self.callbacks:  # between two jobs
            if self.orphan:
                self._end("")
        elif time.monotonic() > deadline:
            self._end("in the middle of a long step")

    def _end(self, how: str) -> NoReturn:
        """Mark what is running as killed, say one line, end. Nothing here can hang."""
        stop = Interrupted(self.signal or signal.SIGTERM)
        reason = f"{stop}, {how}" if how else str(stop)
        last: list[tuple[Callable[[str], object], str]] = []
        last += [(callback, reason) for callback in self.callbacks]
        if not self.worker:  # its launcher speaks
            last.append((_write, f"kernelexp: {reason}\n"))
        # First, so that the end of their sweep finds their runs without a process.
        _send(signal.SIGKILL)
        with contextlib.suppress(BaseException):
            threads = [threading.Thread(target=_quietly, args=words, daemon=True) for words in last]
            for thread in threads:
                thread.start()
            until = time.monotonic() + _LAST_WORDS_SECONDS
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        os._exit(stop.exit_code)


_watch: _Watch | None = None


def _send(number: int) -> None:
    """To the workers of a launcher, which are this process's children."""
    with contextlib.suppress(Exception):  # the list changes under way
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)


def _quietly(callback: Callable[[str], object], reason: str) -> None:
    with contextlib.suppress(BaseException):
        callback(reason)


def _write(line: str) -> None:
    os.write(2, line.encode())
