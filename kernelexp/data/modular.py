"""Arithmetic modulo a prime: all pairs (a, b) as two one-hot vectors side by side, a class for each result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from kernelexp.data.base import Arrays, DatasetSource, Shape
from kernelexp.engine.checks import number, one_of, refuse

OPERATIONS = ("add", "subtract", "multiply", "divide")


@dataclass(frozen=True)
class Modular(DatasetSource):
    """x = [e_a, e_b] in R^(2p), the class is (a o b) mod p: the grokking task of Power et al. 2022 and Mallinar et al. 2025.

    The seed draws which pairs are for training, by default half of them; all others are the test points. Nothing is scaled.

    Attributes:
        p: the prime; there are p^2 pairs, p (p - 1) for ``divide``, whose b is not 0.
        operation: ``add``, ``subtract``, ``multiply`` or ``divide``.
    """

    name: ClassVar[str] = "modular"
    colour: ClassVar[bool | None] = False
    scale: str = "none"
    task: str = "classification"
    p: int = 61
    operation: str = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("p", self.p, 2, whole=True)
        if any(self.p % k == 0 for k in range(2, int(self.p**0.5) + 1)):
            raise refuse("p", self.p, "a prime")
        one_of("operation", self.operation, OPERATIONS)
        for key in ("n_train", "n_test"):
            most = self._pairs - (self._n_train if key == "n_test" else 1)
            if (getattr(self, key) or 0) > most:
                fitting = f"at most {most} of {self._pairs} pairs, or null"
                raise refuse(key, getattr(self, key), fitting)

    @property
    def _pairs(self) -> int:
        return self.p * (self.p - 1 if self.operation == "divide" else self.p)

    @property
    def _n_train(self) -> int:
        return self.n_train or self._pairs // 2

    def read(self, data_dir: Path, seed: int) -> Arrays:
        least = 1 if self.operation == "divide" else 0
        a, b = (i.ravel() for i in np.mgrid[0 : self.p, least : self.p])
        order = np.random.default_rng([seed, self.p]).permutation(len(a))
        one_hot = np.eye(self.p)
        x = np.concatenate([one_hot[a], one_hot[b]], axis=1)[order]
        y = self._result(a, b)[order]
        trained = np.arange(len(y)) < self._n_train
        if self.balanced and self.n_train is not None and self.n_train % self.p == 0:
            # The first of each class; as many as there are, where that is too few.
            each = [np.flatnonzero(y == c)[: self.n_train // self.p] for c in range(self.p)]
            trained = np.isin(np.arange(len(y)), np.concatenate(each))
        return Arrays(x[trained], y[trained], x[~trained], y[~trained])

    def shape(self) -> Shape:
        left = self._pairs - self._n_train
        return Shape(self._n_train, self.n_test or left, 2 * self.p, self.p)

    def _result(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        results = {"add": a + b, "subtract": a - b, "multiply": a * b}
        if self.operation == "divide":
            results["divide"] = a * np.array([pow(int(i), -1, self.p) for i in b])
        return np.asarray(results[self.operation] % self.p)

    def location(self, data_dir: Path) -> str:
        return f"all pairs modulo {self.p}, {self.operation}"
