"""Synthetic tables of the literature, by scikit-learn's generators: their rows are always the same, the seed splits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kernelexp.data.base import Shape
from kernelexp.data.rows import Rows, Tables
from kernelexp.engine.checks import number


@dataclass(frozen=True)
class Generated(Rows):
    """Rows that are drawn, with columns ``x0``, ``x1``, ... and ``target``.

    Attributes:
        rows: how many there are.
    """

    spread: ClassVar[float]
    columns: ClassVar[int]
    outputs: ClassVar[int] = 1
    rows: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        number("rows", self.rows, 10, whole=True)
        self._check_taken_of(self.rows)

    def shape(self) -> Shape | None:
        return self._shape(self.rows, self.columns, self.outputs)

    def tables(self, data_dir: Path) -> Tables:
        import pyarrow as pa
        from sklearn import datasets

        make = getattr(datasets, f"make_{self.name}")
        X, y = make(self.rows, noise=self.spread, random_state=0)
        columns: dict[str, Any] = {f"x{i}": x for i, x in enumerate(X.T)}
        target = y if y.dtype.kind == "f" else y.astype(str)  # texts are labels
        table = pa.table({**columns, "target": target})
        return Tables(table, f"scikit-learn's {self.name}", self.target or "target")

    def location(self, data_dir: Path) -> str:
        return f"scikit-learn, make_{self.name}"


@dataclass(frozen=True)
class Friedman1(Generated):
    """10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 of ten uniform inputs, noise N(0, 1); Friedman 1991, Breiman 1996."""

    name: ClassVar[str] = "friedman1"
    spread: ClassVar[float] = 1.0
    columns: ClassVar[int] = 10


@dataclass(frozen=True)
class Friedman2(Generated):
    """The impedance of a circuit of four inputs, with a third of noise; Friedman 1991, Breiman 1996."""

    name: ClassVar[str] = "friedman2"
    spread: ClassVar[float] = 125.0
    columns: ClassVar[int] = 4


@dataclass(frozen=True)
class Friedman3(Generated):
    """The phase of that circuit, with a third of noise; Friedman 1991, Breiman 1996."""

    name: ClassVar[str] = "friedman3"
    spread: ClassVar[float] = 0.1
    columns: ClassVar[int] = 4


@dataclass(frozen=True)
class Moons(Generated):
    """Two classes on two half circles that face each other, noise of 0.3."""

    name: ClassVar[str] = "moons"
    spread: ClassVar[float] = 0.3
    columns: ClassVar[int] = 2
    outputs: ClassVar[int] = 2
