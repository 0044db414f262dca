"""The two synthetic sets of Belkin, Ma, Mandal 2018, section 4: two classes in R^50."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource, Shape

_DEFAULT_SIZE = 10_000


@dataclass(frozen=True)
class Synthetic1(DatasetSource):
    """Separable: x_1 ~ N(0, 1) in class 1, N(10, 1) in class 0; x_2 ... x_50 ~ U(-1, 1).

    Both classes are equally likely and learned as one {0, 1} output. Bayes error 3e-7. Null sizes
    mean 10,000; features are not scaled unless asked.
    """

    name: ClassVar[str] = "synthetic1"
    colour: ClassVar[bool | None] = False
    single_output: ClassVar[bool] = True
    other_mean: ClassVar[float] = 10.0
    scale: str = "none"

    def read(self, data_dir: Path, seed: int) -> Arrays:
        rng = np.random.default_rng([seed, 50])
        train = self._draw(self.n_train or _DEFAULT_SIZE, rng, self.balanced)
        return Arrays(*train, *self._draw(self.n_test or _DEFAULT_SIZE, rng))

    def shape(self) -> Shape:
        return Shape(self.n_train or _DEFAULT_SIZE, self.n_test or _DEFAULT_SIZE, 50, 1)

    def _draw(
        self, n: int, rng: np.random.Generator, balanced: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(n) % 2) if balanced else rng.integers(0, 2, n)
        x = rng.uniform(-1, 1, (n, 50))
        x[:, 0] = rng.normal(np.where(y == 1, 0.0, self.other_mean), 1.0)
        return x, y

    def location(self, data_dir: Path) -> str:
        return "Belkin, Ma, Mandal 2018, section 4"


@dataclass(frozen=True)
class Synthetic2(Synthetic1):
    """Overlapping: as ``synthetic1`` with N(2, 1) in class 0. Bayes error 15.9%."""

    name: ClassVar[str] = "synthetic2"
    other_mean: ClassVar[float] = 2.0
