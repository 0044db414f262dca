"""A target of few coordinates: x ~ N(0, 1/4 I) in R^20, y = x_0 x_1 [x_5 > 0]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource, Shape

_DEFAULT_SIZE, _FEATURES, _SPREAD = 4000, 20, 0.5


@dataclass(frozen=True)
class LowRank(DatasetSource):
    """The low-rank task of Radhakrishnan, Beaglehole, Pandit, Belkin 2024; null sizes mean 4,000, nothing is scaled."""

    name: ClassVar[str] = "low_rank"
    colour: ClassVar[bool | None] = False
    scale: str = "none"
    task: str = "regression"

    def read(self, data_dir: Path, seed: int) -> Arrays:
        rng = np.random.default_rng([seed, _FEATURES])
        train = self._draw(self.n_train or _DEFAULT_SIZE, rng)
        return Arrays(*train, *self._draw(self.n_test or _DEFAULT_SIZE, rng))

    def shape(self) -> Shape:
        return Shape(self.n_train or _DEFAULT_SIZE, self.n_test or _DEFAULT_SIZE, _FEATURES, 1)

    def subspace(self, seed: int) -> np.ndarray:
        return np.eye(_FEATURES)[:, [0, 1, 5]]

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = _SPREAD * rng.standard_normal((n, _FEATURES))
        return x, x[:, 0] * x[:, 1] * (x[:, 5] > 0)

    def location(self, data_dir: Path) -> str:
        return "Radhakrishnan et al. 2024, low-rank task"
