"""A user's own arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kernelexp.data.base import Arrays, DatasetSource
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

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()
