"""One checkpoint as one file: tensors as safetensors, everything else as JSON in its header.

A file is there as a whole or not at all: it is written in a folder beside it, synced, and renamed. What
comes back is what was saved, to the bit, and lies in memory as it lay: the digits of a matrix product
depend on strides, and on the alignment of what it multiplies.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_FORMAT = "1"
_WRITING = "writing"


class BrokenCheckpoint(ValueError):
    """A file that is no checkpoint, or not all of one."""


def write(path: Path, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    """Save tensors of any device and shape, and ``content``, of what JSON has, as the file ``path``.

    Raises:
        OSError: where it cannot be written; then there is nothing new.
    """
    dense = {name: _dense(tensor) for name, tensor in tensors.items()}
    # In the order they have in memory, beside the strides that say how to look at them.
    flat = {name: t.as_strided((t.numel(),), (1,)) for name, t in dense.items()}
    layout = {name: [list(t.shape), list(t.stride())] for name, t in dense.items()}
    text = json.dumps({"layout": layout, "content": content})
    checksum = str(_checksum(text, flat))
    unfinished = path.parent / _WRITING / path.name
    unfinished.parent.mkdir(exist_ok=True)
    try:
        save_file(flat, unfinished, {"format": _FORMAT, "text": text, "crc32": checksum})
        _sync(unfinished)
        os.replace(unfinished, path)
    except SafetensorError as error:
        raise OSError(str(error).removeprefix("Error while serializing: ")) from error
    finally:
        remove_unfinished(path.parent)
    try:
        _sync(path.parent)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems sync no folders
            raise


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the content.

    Raises:
        BrokenCheckpoint: for a file that is cut, changed or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = _metadata(file)
            # Copied, since those of a mapped file are not aligned as PyTorch aligns its own.
            flat = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BrokenCheckpoint(str(error)) from error
    if metadata["crc32"] != str(_checksum(metadata["text"], flat)):
        raise BrokenCheckpoint("its checksum is another")
    text = json.loads(metadata["text"])
    layout = text["layout"]
    return {name: t.as_strided(*layout[name]) for name, t in flat.items()}, dict(text["content"])


def read_content(path: Path) -> dict[str, Any]:
    """The content alone, of a file whose tensors are not looked at; errors as ``read``."""
    try:
        with safe_open(path, "pt") as file:
            return dict(json.loads(_metadata(file)["text"])["content"])
    except (SafetensorError, OSError, ValueError) as error:
        raise BrokenCheckpoint(str(error)) from error


def remove_unfinished(folder: Path) -> None:
    """What a write that failed, or was killed, has left in ``folder``."""
    place = folder / _WRITING
    if place.is_dir():
        for left in place.iterdir():
            left.unlink()
        place.rmdir()


def _metadata(file: Any) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        raise BrokenCheckpoint("not a checkpoint of this version")
    return metadata


def _dense(tensor: Tensor) -> Tensor:
    """On the CPU, with its strides where it fills its memory, else as a copy that does."""
    tensor = tensor.detach().cpu()
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor if tensor.numel() == last + 1 else tensor.contiguous()


def _checksum(text: str, flat: dict[str, Tensor]) -> int:
    value = zlib.crc32(text.encode())
    for name in sorted(flat):
        value = zlib.crc32(flat[name].view(torch.uint8).numpy().data, value)
    return value


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
