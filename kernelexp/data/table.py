"""A user's own table: a CSV, Parquet, Arrow or Feather file, of which one column is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kernelexp.data.rows import Rows, Tables
from kernelexp.engine.checks import refuse

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".arrow")


@dataclass(frozen=True)
class Table(Rows):
    """Rows of a file.

    Attributes:
        path: the file; its ending says what it is: .csv, .tsv, .parquet, .feather, .arrow.
        test: also another file.
    """

    name: ClassVar[str] = "table"
    path: str | None = None

    def __post_init__(self) -> None:
        self._check_file("path", self.path)
        super().__post_init__()
        if self.target is None:
            raise refuse(
                "target", None, f"the name of a column of {self.path}, e.g. dataset.target=price"
            )

    def _check_test_file(self, test: str) -> None:
        self._check_file("test", test)

    def _check_file(self, key: str, path: str | None) -> None:
        kinds = ", ".join(ENDINGS)
        if path is None or not Path(path).is_file():
            raise refuse(key, path, f"a file ({kinds}), e.g. dataset.{key}=my.csv")
        if Path(path).suffix.lower() not in ENDINGS:
            raise refuse(key, path, f"a file whose name ends in {kinds}")

    def tables(self, data_dir: Path) -> Tables:
        from kernelexp.data.column_kinds import text_columns
        from kernelexp.data.table_file import read_table

        path, target = str(self.path), str(self.target)
        rows = read_table(Path(path))
        if isinstance(self.test, str):
            texts = text_columns(rows.schema)
            test = read_table(Path(self.test), texts)
            if self.group in set(text_columns(test.schema)).difference(texts):
                # 007 of a file without A12 is the group 7.
                rows = read_table(Path(path), [*texts, self.group])
            return Tables(rows, path, target, test, self.test)
        return Tables(rows, path, target)

    def files(self, data_dir: Path) -> list[Path]:
        return [Path(p) for p in (self.path, self.test) if isinstance(p, str)]

    def location(self, data_dir: Path) -> str:
        return Path(str(self.path)).absolute().as_uri()
