"""A user's own arrays, too large for memory: one .npy file each, mapped and not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import ARRAYS, Arrays, DatasetSource, Shape
from kernelexp.data.npz import shape_of
from kernelexp.engine.checks import refuse

_FILES = [f"{name}.npy" for name in ARRAYS]


@dataclass(frozen=True)
class NPY(DatasetSource):
    """``x_train.npy, y_train.npy, x_test.npy, y_test.npy`` in a folder.

    The training points stay in their file, and the system reads what is used and drops it when memory
    is short, where they can be used as they are: of the run's type, ``scale`` none (the default here),
    ``n_train`` null and ``balanced`` false. Else they are read into memory.

    Attributes:
        path: the folder.
    """

    name: ClassVar[str] = "npy"
    scale: str = "none"
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        folder = None if self.path is None else Path(self.path)
        missing = [file for file in _FILES if folder is None or not (folder / file).is_file()]
        if missing:
            needed = f"a folder with {', '.join(_FILES)} (not there: {', '.join(missing)})"
            raise refuse("path", self.path, needed)

    @property
    def mapped(self) -> bool:
        return self.scale == "none" and self.n_train is None and not self.balanced

    def read(self, data_dir: Path, seed: int) -> Arrays:
        x_train, y_train, x_test, y_test = (self._open(file) for file in _FILES)
        return Arrays(x_train, y_train, x_test, y_test)

    def _open(self, file: str) -> np.ndarray:
        path = Path(str(self.path)) / file
        try:
            # Read-only: of a mapping that could be written Linux wants to know that it fits.
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: not a readable .npy file of numbers; write it anew"
            ) from error
        if not array.flags.c_contiguous:
            raise ValueError(
                f"{path}: stored column by column; must be row by row: np.save the result of "
                "np.ascontiguousarray"
            )
        return array if file.startswith("x") else np.array(array)

    def shape(self) -> Shape | None:
        try:
            arrays = self.read(Path(), 0)
            there = shape_of(self, arrays.x_train.shape, arrays.y_train, arrays.y_test)
        except ValueError:  # a broken file is refused when it is read
            return None
        return self.taken(there)

    def files(self, data_dir: Path) -> list[Path]:
        return [Path(str(self.path)) / file for file in _FILES]

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()
