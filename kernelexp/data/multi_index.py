"""A polynomial of four hidden directions: y = (z_1 z_2 + z_3 z_4 + z_1 z_2 z_3 z_4) / sqrt(3), z = U^T x."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource, Shape
from kernelexp.engine.checks import number

_DEFAULT_SIZE, _DIRECTIONS = 4000, 4


@dataclass(frozen=True)
class MultiIndex(DatasetSource):
    """x ~ N(0, I) in R^d, U (d, 4) orthonormal, drawn by the seed; null sizes mean 4,000, nothing is scaled.

    y has variance 1 in three uncorrelated parts. Those of degree 2 have two thirds of it and name all four directions: what Zhu, Davis,
    Drusvyatskiy, Fazel 2026 ask for, who have polynomials on the hypercube.

    Attributes:
        d: coordinates, 4 or more.
    """

    name: ClassVar[str] = "multi_index"
    colour: ClassVar[bool | None] = False
    scale: str = "none"
    task: str = "regression"
    d: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        number("d", self.d, _DIRECTIONS, whole=True)

    def read(self, data_dir: Path, seed: int) -> Arrays:
        rng, U = np.random.default_rng([seed, self.d]), self.subspace(seed)
        train = self._draw(self.n_train or _DEFAULT_SIZE, U, rng)
        return Arrays(*train, *self._draw(self.n_test or _DEFAULT_SIZE, U, rng))

    def shape(self) -> Shape:
        return Shape(self.n_train or _DEFAULT_SIZE, self.n_test or _DEFAULT_SIZE, self.d, 1)

    def subspace(self, seed: int) -> np.ndarray:
        some = np.random.default_rng([seed, self.d, _DIRECTIONS])
        return np.linalg.qr(some.standard_normal((self.d, _DIRECTIONS)))[0]

    def _draw(
        self, n: int, U: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((n, self.d))
        z = (x @ U).T
        first, second = z[0] * z[1], z[2] * z[3]
        return x, (first + second + first * second) / np.sqrt(3)

    def location(self, data_dir: Path) -> str:
        return "Gaussian points, a polynomial of four directions"
