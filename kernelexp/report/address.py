"""The address of a tracking store: what of it may be shown, and whether there is a store to read."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

_SQLITE = "sqlite:///"
_MLFLOW_TABLES = {"experiments", "alembic_version"}


def check_address(uri: str, shown: str) -> None:
    """Refuse what MLflow would make anew, take for a folder of runs, or write its tables into.

    Raises:
        ValueError: in one line.
    """
    file = Path(uri.removeprefix(_SQLITE).partition("?")[0])
    if uri.startswith(_SQLITE) and (obstacle := _obstacle(file)):
        raise ValueError(f"--store {shown}: {obstacle}")
    # databricks and uc are names of services; a folder of runs has to be allowed to MLflow.
    if re.match(r"([\w+]+:|databricks|uc\b)", uri) or os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        return
    hint = f"{_SQLITE}{uri}" if file.is_file() else f"{_SQLITE}mlflow.db"
    raise ValueError(f"--store {shown}: must be an address, as {hint} or http://HOST:PORT")


def _obstacle(file: Path) -> str:
    """Why a file is no store, empty for one that is."""
    if not file.is_file():
        return "is a folder" if file.is_dir() else "no such file; run an experiment first"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            found = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in found}
    except sqlite3.OperationalError:  # locked, which passes, or what MLflow will say
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)
    if not tables:
        return "an empty file; run an experiment first"
    return "" if tables & _MLFLOW_TABLES else "a SQLite file of another program"


def without_password(uri: str) -> str:
    """An address as it may be shown; a password may have a slash in it."""
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", _without_user(uri))


def shown_store(uri: str) -> str:
    """An address without user, password, and the folders of this machine."""
    parts = urlsplit(_without_user(uri))
    if parts.scheme.startswith("sqlite") or not parts.hostname:
        return f"{parts.scheme}:///{Path(parts.path).name}" if parts.scheme else Path(uri).name
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _without_user(uri: str) -> str:
    return re.sub(r"://[^:/]*(:[^@]*)?@", "://", uri)
