"""What data are, in a few characters: of points their content, of files what the system knows of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.cache import own_file


def digest(arrays: Arrays) -> str:
    """Of shapes, types and numbers; of a table also of what names, labels and groups make of them."""
    state = hashlib.blake2b(digest_size=16)
    if arrays.columns is not None:
        state.update(json.dumps(arrays.columns.to_dict()).encode())
    for order in (arrays.groups, arrays.times):
        if order is not None:
            state.update(order.tobytes())
    for array in arrays.named().values():
        state.update(f"{array.dtype.str} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def files_state(source: DatasetSource, data_dir: Path) -> str:
    """Of the files that would be read, without reading them.

    Other content is another state; the same content may be one too, once it is written again or moved.
    """
    own = own_file(source, data_dir)
    state = hashlib.blake2b(digest_size=12)
    for file in [own] if own is not None else source.files(data_dir) or []:
        s = file.stat()
        known = s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns
        state.update(f"{file.resolve()} {known}".encode())
    return state.hexdigest()


def are_here(source: DatasetSource, data_dir: Path) -> bool:
    """Whether the data can be read without a download."""
    return own_file(source, data_dir) is not None or source.files(data_dir) != []
