"""A user's own arrays."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource, Shape
from kernelexp.data.cache import read_npz
from kernelexp.data.targets import classes_of
from kernelexp.engine.checks import refuse


@dataclass(frozen=True)
class NPZ(DatasetSource):
    """``x_train, y_train, x_test, y_test`` of an .npz file.

    y are whole numbers, the labels of classes, or floating-point targets (n,) or (n, c): see ``task``.

    Attributes:
        path: the file.
    """

    name: ClassVar[str] = "npz"
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None or not Path(self.path).is_file():
            raise refuse(
                "path", self.path, "an .npz file with x_train, y_train, x_test, y_test, e.g. "
                "dataset.path=my.npz"
            )  # fmt: skip

    def read(self, data_dir: Path, seed: int) -> Arrays:
        return read_npz(Path(str(self.path)))

    def shape(self) -> Shape | None:
        try:
            with np.load(str(self.path), allow_pickle=False) as stored:  # reads what is asked for
                y = stored["y_train"], stored["y_test"]
                there = shape_of(self, _stored_shape(Path(str(self.path)), "x_train"), *y)
        except Exception:  # a broken file is refused when it is read
            return None
        return self.taken(there)

    def files(self, data_dir: Path) -> list[Path]:
        return [Path(str(self.path))]

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()


def shape_of(
    source: DatasetSource, x_shape: tuple[int, ...], y_train: np.ndarray, y_test: np.ndarray
) -> Shape:
    """The sizes of own arrays, all points, from the shape of x_train and both y; raises as ``classes_of``."""
    classes = classes_of(source.task, y_train, y_test)
    c = math.prod(y_train.shape[1:]) if classes is None else len(classes)
    d = math.prod(x_shape[1:])
    return Shape(x_shape[0], len(y_test), d, c)


def _stored_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of an array of an .npz file, from its header."""
    with zipfile.ZipFile(path).open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        return tuple(read(file)[0])
