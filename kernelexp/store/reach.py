"""Whether a store can be opened, asked once: MLflow tries a database ten times, for a minute and more."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from kernelexp.engine.checks import refuse

_SQLITE = "sqlite:///"
# To connect; for an answer; for all of it, of drivers and file systems that know no limit.
_SECONDS, _ANSWER_SECONDS, _MOST_SECONDS = 4, 8, 10
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# File systems of several machines, by whose locks SQLite's writers may both go on. Those that a machine shares with its
# own guests (9p, virtiofs) are not among them, nor those whose locks hold on all machines (gpfs, ceph; lustre, unless
# it is mounted without them).
_MOUNTS = Path("/proc/self/mounts")
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs"),
    *("beegfs", "fuse.glusterfs", "pvfs2"),
    *("wekafs", "panfs", "orangefs", "fuse.juicefs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
    *("lustre noflock", "lustre localflock"),
}
# Options of a mount that say that locks are those of a machine alone.
_LOCAL_LOCKS = {"noflock", "localflock"}
_NO_SERVER = "no server answers there"
_SILENT = "a server is there and does not answer"
# Packages whose errors are those of a store, or of where it keeps files.
_OF_STORES = {
    *("mlflow", "sqlalchemy", "sqlite3", "requests", "urllib3", "psycopg2", "pymysql"),
    *("botocore", "boto3", "azure", "google"),
}
# Of the tables of an MLflow store of any version.
_MLFLOW_TABLES = {"experiments", "alembic_version"}


class StoreAway(ValueError):
    """The store cannot be opened."""


def check_reachable(uri: str, writes: bool = True) -> None:
    """Refuse a store that is not there, at once; ``writes`` false: what is only read may be anywhere.

    SQLite makes a file, in a folder that is there. Where the folder is missing a disk may not be mounted,
    and MLflow would make the folder and record there.

    Raises:
        StoreAway: in one line.
    """
    try:
        obstacle = _within(_MOST_SECONDS, lambda: _obstacle(uri, writes))
    except Exception as error:  # of the system, SQLAlchemy and each driver
        raise cannot_open(uri, first_line(error)) from error
    if obstacle is not None:
        raise cannot_open(uri, obstacle)


def sqlite_file(uri: str) -> Path | None:
    """The file of ``sqlite:///FILE``; None for other stores."""
    if not uri.startswith(_SQLITE):
        return None
    name = uri.removeprefix(_SQLITE).partition("?")[0]
    return None if name in ("", ":memory:") else Path(name)


def cannot_open(uri: str, reason: str) -> StoreAway:
    """The error to raise for a store that does not open."""
    allowed = f"a store that opens ({reason}); tracking.enabled=false runs without one"
    return StoreAway(refuse("tracking.uri", without_password(uri), allowed))


def without_password(uri: str) -> str:
    """An address as it may be shown."""
    # Also in a longer text; a password may have a slash in it.
    masked = re.sub(r"(://[^:/\s]*:)[^@\s]*@", r"\1***@", uri)
    masked = re.sub(r"(https?://)[^:@/\s]+@", r"\1***@", masked)  # a token
    return re.sub(r"([?&][^=&\s]*password=)[^&\s]*", r"\1***", masked)


def is_of_the_store(error: Exception) -> bool:
    """Whether an error says that the store did not do what it was asked; else it is of our own code."""
    origin = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | StoreAway) or origin in _OF_STORES


def is_away(error: Exception) -> bool:
    """Whether an error of the store may be that it is not there; else it has answered, or never asked."""
    return is_of_the_store(error) and getattr(error, "response", None) is None


def first_line(error: Exception) -> str:
    """What an error says, without the details below and without a password."""
    return without_password(next(iter(str(error).splitlines()), "")) or type(error).__name__


def _obstacle(uri: str, writes: bool) -> str | None:
    path = sqlite_file(uri)
    if path is not None:
        return _file_obstacle(path, writes)
    if uri.startswith(("http://", "https://")):
        return _server_obstacle(uri)
    if "://" in uri and not uri.startswith(("sqlite:", "file:")):
        return _database_obstacle(uri)
    return None


def _within(seconds: float, ask: Callable[[], str | None]) -> str | None:
    """What ``ask`` returns or raises; ``_SILENT`` where it takes longer."""
    answers: list[str | Exception | None] = []

    def asking() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=asking, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        return _SILENT
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _file_obstacle(path: Path, writes: bool) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}; mount it, make it or name another"
    if path.is_dir():
        return f"{path} is a folder, not a file"
    if writes and (kind := _file_system(folder)) in _NETWORK:
        return (
            f"{path} is on a network file system, {kind}, where SQLite may lose what two processes write; "
            "take a folder of this machine, a database or a server"
        )
    # SQLite writes a journal beside the file.
    if writes and not os.access(folder, os.W_OK):
        return f"the folder {folder.absolute()} is read-only for this user"
    if not path.exists():
        return None
    if writes and not os.access(path, os.W_OK):
        return f"{path} is read-only for this user"
    with closing(sqlite3.connect(path, timeout=1)) as connection:
        try:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in found}
            if writes:
                # And taken back: a read-only file or folder, a full disk are known by it alone.
                connection.execute("BEGIN IMMEDIATE")
                [version] = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version:d}")
                connection.rollback()
        except sqlite3.DatabaseError as error:
            # Another process may be writing, which passes.
            return None if "locked" in str(error) else f"{path}: {error}"
    if tables and not tables & _MLFLOW_TABLES:
        return f"{path} is a SQLite file of another program"
    return None


def _file_system(folder: Path) -> str:
    """The kind that a folder is on; empty where the system does not say."""
    try:
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:  # not Linux
        return ""
    folder, kinds = folder.resolve(), {}
    for _, place, kind, options, *_ in mounts:
        local = _LOCAL_LOCKS.intersection(options.split(","))
        # A later mount hides an earlier one.
        kinds[Path(place.replace("\\040", " "))] = " ".join([kind, *local])
    return next((kinds[place] for place in (folder, *folder.parents) if place in kinds), "")


def _server_obstacle(uri: str) -> str | None:
    import requests

    try:
        requests.get(uri, timeout=(_SECONDS, _ANSWER_SECONDS), stream=True).close()
    except requests.exceptions.SSLError:
        return None  # it is there; whether its certificate will do is MLflow's to say
    except requests.exceptions.ReadTimeout:
        return _SILENT
    except requests.exceptions.ConnectionError:
        return _NO_SERVER
    return None


def _database_obstacle(uri: str) -> str | None:
    from sqlalchemy import create_engine, make_url, pool

    url = make_url(uri)
    port = url.port or _PORTS.get(url.get_backend_name())
    if url.host and port:
        try:
            socket.create_connection((url.host, port), _SECONDS).close()
        except OSError:
            return _NO_SERVER
    with create_engine(url, poolclass=pool.NullPool).connect():
        return None
