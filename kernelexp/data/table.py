"""A user's own table: a CSV, Parquet, Arrow or Feather file, of which one column is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from kernelexp.data.base import Arrays, DatasetSource
from kernelexp.data.held_out import check_held_out
from kernelexp.engine.checks import one_of, refuse

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".arrow")
_MISSING = ("refuse", "impute")


@dataclass(frozen=True)
class Table(DatasetSource):
    """Rows of a file; numbers are coordinates, texts and truth values one coordinate for each level.

    Attributes:
        path: the file; its ending says what it is: .csv, .tsv, .parquet, .feather, .arrow.
        target: the column that is predicted: texts, truth values or few whole numbers are labels, other numbers
            targets (see ``task``).
        test: rows held out to test on: a share, a number, or another file.
        drop: columns that are not used.
        group: a column whose equal values never stand on both sides: patients, users. Not used otherwise.
        time: a column, numbers or dates, of which the latest rows are tested on. Not used otherwise.
        missing: ``refuse`` rows with missing values, or ``impute``: the median of training rows; of texts "missing"
            is a level.
    """

    name: ClassVar[str] = "table"
    cached: ClassVar[bool] = False
    scale: str = "standard"
    path: str | None = None
    target: str | None = None
    test: float | int | str = 0.2
    drop: list[str] = field(default_factory=list)
    group: str | None = None
    time: str | None = None
    missing: str = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("missing", self.missing, _MISSING)
        self._file("path", self.path)
        if self.target is None:
            raise refuse(
                "target", None, f"the name of a column of {self.path}, e.g. dataset.target=price"
            )
        if isinstance(self.test, str):
            self._file("test", self.test)
        else:
            check_held_out("test", self.test)
        if self.group is not None and self.time is not None:
            raise refuse("time", self.time, f"null with dataset.group={self.group}")

    def _file(self, key: str, path: str | None) -> None:
        kinds = ", ".join(ENDINGS)
        if path is None or not Path(path).is_file():
            raise refuse(key, path, f"a file ({kinds}), e.g. dataset.{key}=my.csv")
        if Path(path).suffix.lower() not in ENDINGS:
            raise refuse(key, path, f"a file whose name ends in {kinds}")

    def read(self, data_dir: Path, seed: int) -> Arrays:
        # Here, not above: Arrow is not loaded for other data sets.
        from kernelexp.data import table_file

        return table_file.read(self, seed)

    def files(self, data_dir: Path) -> list[Path]:
        return [Path(p) for p in (self.path, self.test) if isinstance(p, str)]

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()
