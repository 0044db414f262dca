"""Parsed arrays: ``<name>.npz`` in the data folder by the user, in the cache folder by us.

What we keep is of certain files: others, in another data folder or written since, are parsed anew.
"""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs

from kernelexp.data.base import ARRAYS, Arrays, DatasetSource

# What names of kept arrays end in: 8 bytes. Others in the folder are the user's own.
_STAMP = 16 * "[0-9a-f]"


def cache_dir() -> Path:
    """The user's cache folder for this program; ``KERNELEXP_CACHE`` moves it."""
    given = os.environ.get("KERNELEXP_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("kernelexp"))


def own_file(source: DatasetSource, data_dir: Path) -> Path | None:
    """The user's own arrays under the name of a source, where they are there."""
    given = data_dir / f"{source.name}.npz"
    own = source.cached and given.is_file() and given != _kept(source, data_dir)
    return given if own else None


def read_arrays(
    source: DatasetSource, data_dir: Path, seed: int, keep: bool = True
) -> tuple[Arrays, str]:
    """The arrays and where they are from: the user's own file, then our cache, then the source.

    ``keep``: whether what was parsed goes into the cache.
    """
    if not source.cached:
        return source.read(data_dir, seed), source.location(data_dir)
    if (given := own_file(source, data_dir)) is not None:
        return read_npz(given), str(given)
    kept = _kept(source, data_dir)
    try:
        if kept is not None:
            return read_npz(kept), source.location(data_dir)
    except (OSError, ValueError):
        pass  # there is none yet, or one that is not ours to read, or broken: it is written anew
    arrays = source.read(data_dir, seed)
    kept = _kept(source, data_dir)  # of the files that were downloaded
    if kept is not None and keep:
        for other in cache_dir().glob(f"{source.name}-{_STAMP}.npz"):
            with suppress(OSError):  # it is another user's, or gone
                other.unlink()
        write_npz(kept, arrays)
    return arrays, source.location(data_dir)


def _kept(source: DatasetSource, data_dir: Path) -> Path | None:
    """Where the arrays of these very files are kept; None where the files are not there yet."""
    files = source.files(data_dir)
    if files is None:
        return cache_dir() / f"{source.name}.npz"
    stats = [(str(file.resolve()), file.stat()) for file in files]
    known = repr([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    stamp = hashlib.blake2b(known.encode(), digest_size=8).hexdigest()
    return cache_dir() / f"{source.name}-{stamp}.npz" if files else None


def read_npz(path: Path) -> Arrays:
    """The four arrays of an .npz file.

    Raises:
        ValueError: if the file is not one, or an array is missing.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not zipfile.is_zipfile(path):  # NumPy would take it for pickled objects
        raise ValueError(f"{path}: not a readable .npz file")
    try:
        opened = np.load(path, allow_pickle=False)
    except Exception as error:  # as below
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error
    with opened as stored:
        missing = [name for name in ARRAYS if name not in stored.files]
        if missing:
            needed = ", ".join(ARRAYS)
            raise ValueError(f"{path}: has no array {', '.join(missing)}; needed: {needed}")
        try:
            return Arrays(**{name: stored[name] for name in ARRAYS})
        except Exception as error:  # each way a zip can be broken has its own
            raise ValueError(f"{path}: an array is broken, or holds objects: {error}") from error


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write whole or not at all; a folder that cannot be written is passed over."""
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:  # to be read by whom files of this user are
            np.savez(file, **arrays.named())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
