"""Standard output and error: they watch a run, and must not end it.

Whoever reads may have gone (``| head``), the disk may be full, the terminal closed. Then what is
written there is lost and nothing else is: the store has the run.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def protect() -> None:
    """Let no write to them fail from here on, by whomever: prints, rich, warnings, libraries.

    Characters that their encoding has not are written as escapes. Streams that somebody has put in
    their place (a notebook, a test) are left alone.
    """
    for descriptor in range(
        3
    ):  # where one is closed, the next file to be opened would take its place
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            unfailing = _unfailing(stream, descriptor)
            setattr(sys, name, unfailing)
            setattr(sys, f"__{name}__", unfailing)


class _Unfailing(io.FileIO):
    """A file descriptor that takes everything; what it can not pass on is gone."""

    def write(self, data: ReadableBuffer, /) -> int:
        with contextlib.suppress(OSError):
            while (written := super().write(data)) is None:  # one that does not block, and is full
                select.select([], [self], [])
            return written
        return memoryview(data).nbytes


def _unfailing(stream: io.TextIOWrapper | None, descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Unfailing(descriptor, "w", closefd=False))
    if stream is None:  # closed when the program started
        return io.TextIOWrapper(raw, "utf-8", "backslashreplace")
    if isinstance(stream.buffer, io.BufferedWriter) and isinstance(stream.buffer.raw, _Unfailing):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        raw,
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
