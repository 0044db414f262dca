"""A new SQLite store, there as a whole or not at all.

MLflow makes its tables in some thirty steps; a store whose maker was killed amid them, or had a second
one beside it, never opens again. So it is made under another name, and linked into its place when it is
done; a link never replaces a file that is there.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

_MAKING = ".making"


def make_sqlite(path: Path) -> None:
    """Make MLflow's store at ``path`` unless there is one; a second starter waits for the first.

    An empty file is no store, and replaced.

    Raises:
        OSError: where the disk is full or read-only.
        Exception: of SQLAlchemy and MLflow, for the same.
    """
    if _there(path):
        return
    with _lock(path) as alone:
        if _there(path):
            return
        if alone:  # then what others were making is left from killed ones
            for left in _unfinished(path):
                left.unlink(missing_ok=True)
        making = path.with_name(f".{path.name}-{uuid.uuid4().hex}{_MAKING}")
        try:
            _make_tables(making)
            _put_in_place(making, path)
        finally:
            for left in path.parent.glob(f"{escape(making.name)}*"):
                left.unlink(missing_ok=True)


def _there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _unfinished(path: Path) -> list[Path]:
    """Stores under way and SQLite's journals of them."""
    return list(path.parent.glob(f".{escape(path.name)}-*{_MAKING}*"))


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether nobody else is at it; the system releases the lock of a killed process.

    Some network file systems have no locks: there two may make a store at once, and one is linked.
    """
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
        if _there(path):  # which is what those find next who wait on this file
            lock.unlink(missing_ok=True)


def _make_tables(path: Path) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{path}"
    store = SqlAlchemyStore(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    store.engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)


def _put_in_place(made: Path, path: Path) -> None:
    if path.exists() and path.stat().st_size == 0:
        os.replace(made, path)
        return
    with suppress(FileExistsError):
        try:
            os.link(made, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if not path.exists():
                os.rename(made, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
