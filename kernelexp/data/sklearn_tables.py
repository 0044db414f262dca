"""Tables by scikit-learn: those that it brings, and those of openml.org that it fetches and keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kernelexp.data.base import Shape
from kernelexp.data.cache import cache_dir
from kernelexp.data.rows import Rows, Tables
from kernelexp.engine.checks import number, refuse


@dataclass(frozen=True)
class Bundled(Rows):
    """A table that comes with scikit-learn; its classes are called by their names."""

    rows: ClassVar[int]
    columns: ClassVar[int]
    outputs: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_taken_of(self.rows)

    def shape(self) -> Shape | None:
        return self._shape(self.rows, self.columns, self.outputs)

    def tables(self, data_dir: Path) -> Tables:
        from sklearn import datasets

        found = getattr(datasets, f"load_{self.name}")(as_frame=True)
        frame, names = found.frame, getattr(found, "target_names", None)
        if names is not None:
            frame = frame.assign(target=names[found.target])
        return Tables(_table(frame), f"scikit-learn's {self.name}", self.target or "target")

    def location(self, data_dir: Path) -> str:
        return f"scikit-learn, {self.name}"


@dataclass(frozen=True)
class Iris(Bundled):
    """150 flowers of three species, four measures; Fisher 1936."""

    name: ClassVar[str] = "iris"
    rows: ClassVar[int] = 150
    columns: ClassVar[int] = 4
    outputs: ClassVar[int] = 3


@dataclass(frozen=True)
class Wine(Bundled):
    """178 wines of three cultivars, 13 measures."""

    name: ClassVar[str] = "wine"
    rows: ClassVar[int] = 178
    columns: ClassVar[int] = 13
    outputs: ClassVar[int] = 3


@dataclass(frozen=True)
class BreastCancer(Bundled):
    """569 tumours, benign or malignant, 30 measures of cells."""

    name: ClassVar[str] = "breast_cancer"
    rows: ClassVar[int] = 569
    columns: ClassVar[int] = 30
    outputs: ClassVar[int] = 2


@dataclass(frozen=True)
class Diabetes(Bundled):
    """442 patients, ten measures; the progression of the disease a year later, a number."""

    name: ClassVar[str] = "diabetes"
    rows: ClassVar[int] = 442
    columns: ClassVar[int] = 10
    outputs: ClassVar[int] = 1


@dataclass(frozen=True)
class OpenML(Rows):
    """A table of openml.org, kept in the cache folder once it was fetched.

    Attributes:
        id: its number there.
        target: null: the one that the table names itself.
    """

    name: ClassVar[str] = "openml"
    id: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.id is None:
            raise refuse("id", None, "the number of a table on openml.org, e.g. dataset.id=61")
        number("id", self.id, 1, whole=True)

    def tables(self, data_dir: Path) -> Tables:
        from sklearn.datasets import fetch_openml

        try:
            found = fetch_openml(data_id=self.id, as_frame=True, data_home=str(cache_dir()))
        except Exception as error:  # of the network, openml.org and the parser
            raise FileNotFoundError(
                f"dataset.id={self.id}: could not be fetched from openml.org ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:150]}); on a machine without a network copy "
                f"{self._folder()} from one that has it"
            ) from error
        named = found.target.name if getattr(found.target, "name", None) else None
        if self.target is None and named is None:
            raise refuse("target", None, "a column: this table names none, or several")
        return Tables(_table(found.frame), f"openml {self.id}", str(self.target or named))

    def _folder(self) -> Path:
        return cache_dir() / "openml" / "openml.org"

    def files(self, data_dir: Path) -> list[Path]:
        """What was fetched; of the table its description tells that it is there."""
        return sorted(self._folder().glob(f"api/v1/json/data/{self.id}.gz"))

    def location(self, data_dir: Path) -> str:
        return f"https://www.openml.org/d/{self.id}"


def _table(frame: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)
