"""Parsed arrays as ``<name>.npz``: in the data folder by the user, in the cache folder by us."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import platformdirs

from kernelexp.data.base import Arrays


def cache_dir() -> Path:
    """The user's cache folder for this program; ``KERNELEXP_CACHE`` moves it."""
    given = os.environ.get("KERNELEXP_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("kernelexp"))


def read_npz(path: Path) -> Arrays:
    """The four arrays of an .npz file.

    Raises:
        ValueError: if the file is not one, or an array is missing.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not zipfile.is_zipfile(path):  # NumPy would take it for pickled objects
        raise ValueError(f"{path}: not a readable .npz file")
    with np.load(path, allow_pickle=False) as stored:
        missing = [name for name in Arrays._fields if name not in stored.files]
        if missing:
            needed = ", ".join(Arrays._fields)
            raise ValueError(f"{path}: has no array {', '.join(missing)}; needed: {needed}")
        try:
            return Arrays(**{name: stored[name] for name in Arrays._fields})
        except Exception as error:  # each way a zip can be broken has its own
            raise ValueError(f"{path}: an array is broken, or holds objects: {error}") from error


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write whole or not at all; a folder that cannot be written is passed over."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays._asdict())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
