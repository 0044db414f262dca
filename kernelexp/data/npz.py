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
from kernelexp.engine.checks import refuse


@dataclass(frozen=True)
class NPZ(DatasetSource):
    """``x_train, y_train, x_test, y_test`` of an .npz file.

    Integer y are class labels 0, 1, ...; floating-point y, (n,) or (n, c), are regression targets.

    Attributes:
        path: the file.
    """

    name: ClassVar[str] = "npz"
    cached: ClassVar[bool] = False
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
                y = stored["y_train"]
                n_test = len(stored["y_test"])
                x_shape = _stored_shape(Path(str(self.path)), "x_train")
        except Exception:  # a broken file is refused when it is read
            return None
        return shape_of(self, x_shape, y, n_test)

    def files(self, data_dir: Path) -> list[Path]:
        return [Path(str(self.path))]

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()


def shape_of(source: DatasetSource, x_shape: tuple[int, ...], y: np.ndarray, n_test: int) -> Shape:
    """The sizes of own arrays, from the shape of x_train, y_train and the number of test points."""
    single = y.ndim == 1 and y.dtype.kind == "f"
    c = 1 if single else y.shape[1] if y.ndim > 1 else int(y.max()) + 1
    d = math.prod(x_shape[1:])
    return Shape(source.n_train or x_shape[0], source.n_test or n_test, d, c)


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
