"""The 8 x 8 digits that come with scikit-learn: 1,797 images, no download."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource


@dataclass(frozen=True)
class Digits(DatasetSource):
    """1,437 training and 360 test images, split once for all seeds; pixels 0 to 16."""

    name: ClassVar[str] = "digits"
    cached: ClassVar[bool] = True
    sizes: ClassVar[tuple[int, int] | None] = (1437, 360)
    colour: ClassVar[bool | None] = False
    n_features: ClassVar[int | None] = 64
    n_outputs: ClassVar[int | None] = 10

    @property
    def in_bytes(self) -> bool:
        return self.scale == "unit"

    def read(self, data_dir: Path, seed: int) -> Arrays:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = np.random.default_rng(0).permutation(len(bunch.target))
        x, y = bunch.images[order].astype(np.float32), bunch.target[order]
        n = 1437
        return Arrays(x[:n], y[:n], x[n:], y[n:])

    def location(self, data_dir: Path) -> str:
        return "sklearn.datasets.load_digits"
