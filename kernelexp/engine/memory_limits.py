"""What may still be taken under each limit that Linux sets a process: control groups and ulimits.

All in bytes. A limit that cannot be read is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_PROC = Path("/proc/self")
_CGROUP = Path("/sys/fs/cgroup")
# The files of a group in version 2, and of the memory controller in version 1: limit, what is used, and
# the pages of files that count as used but are dropped when memory is short, in memory.stat.
_VERSION_2 = "memory.max", "memory.current", ("active_file", "inactive_file")
_VERSION_1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
# What ulimit -v and ulimit -d count, by their names in /proc/self/status.
_ULIMITS = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}


def rooms() -> Iterator[int]:
    """What is left under each limit there is; the least of them holds."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                yield from _group_rooms(_CGROUP, group, *_VERSION_2)
            elif "memory" in controllers.split(","):
                yield from _group_rooms(_CGROUP / "memory", group, *_VERSION_1)
    yield from _ulimit_rooms()


def _group_rooms(
    mount: Path, group: str, limit: str, usage: str, of_files: tuple[str, str]
) -> Iterator[int]:
    """Of a group and all it is in: each one's limit holds.

    In a container the path can be that of the host, which is not there; its root is the mount then.
    """
    name = PurePosixPath(group.lstrip("/"))
    inside = [] if ".." in name.parts else [name, *name.parents]
    for place in dict.fromkeys([*inside, PurePosixPath()]):
        folder = mount / place
        with contextlib.suppress(OSError, ValueError, KeyError):  # not there, or "max"
            most, used = (int((folder / name).read_text()) for name in (limit, usage))
            counts = dict(
                line.split() for line in (folder / "memory.stat").read_text().splitlines()
            )
            yield most - used + sum(int(counts[key]) for key in of_files)


def _ulimit_rooms() -> Iterator[int]:
    with contextlib.suppress(ImportError, OSError):  # Windows has no resource, others no status
        import resource

        status = dict(line.split(":", 1) for line in (_PROC / "status").read_text().splitlines())
        for name, counted in _ULIMITS.items():
            most = resource.getrlimit(getattr(resource, name))[0]
            if most != resource.RLIM_INFINITY:
                yield most - int(status[counted].split()[0]) * 1024
