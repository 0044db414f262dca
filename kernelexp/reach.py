"""Whether a store can be opened, asked once: MLflow tries a database ten times, for a minute and more."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from kernelexp.engine.checks import refuse

_SQLITE = "sqlite:///"
# To connect; an answer may take longer.
_SECONDS = 4
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_NO_SERVER = "no server answers there"


def check_reachable(uri: str) -> None:
    """Refuse a store that is not there, at once.

    SQLite makes a file, in a folder that is there. Where the folder is missing a disk may not be mounted,
    and MLflow would make the folder and record there.

    Raises:
        ValueError: in one line.
    """
    path = sqlite_file(uri)
    try:
        if path is not None:
            obstacle = _file_obstacle(path)
        elif uri.startswith(("http://", "https://")):
            obstacle = _server_obstacle(uri)
        elif "://" in uri and not uri.startswith(("sqlite:", "file:")):
            obstacle = _database_obstacle(uri)
        else:
            return
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


def cannot_open(uri: str, reason: str) -> ValueError:
    """The error to raise for a store that does not open; a password in ``uri`` is not shown."""
    shown = re.sub(r"(://[^/@]*:)[^/@]*@", r"\1***@", uri)
    allowed = f"a store that opens ({reason}); tracking.enabled=false runs without one"
    return refuse("tracking.uri", shown, allowed)


def first_line(error: Exception) -> str:
    """What an error says, without the details below."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _file_obstacle(path: Path) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}; mount it, make it or name another"
    if path.is_dir():
        return f"{path} is a folder, not a file"
    # SQLite writes a journal beside the file.
    if not os.access(folder, os.W_OK):
        return f"the folder {folder.absolute()} is read-only for this user"
    if not path.exists():
        return None
    if not os.access(path, os.W_OK):
        return f"{path} is read-only for this user"
    with closing(sqlite3.connect(path, timeout=1)) as connection:
        try:
            connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.DatabaseError as error:
            # Another process may be writing, which passes.
            return None if "locked" in str(error) else f"{path}: {error}"
    return None


def _server_obstacle(uri: str) -> str | None:
    import requests

    try:
        requests.get(uri, timeout=(_SECONDS, None), stream=True).close()
    except requests.exceptions.SSLError:
        return None  # it is there; whether its certificate will do is MLflow's to say
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
