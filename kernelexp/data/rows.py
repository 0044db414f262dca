"""Tables of any origin: which columns and rows of them are used for what."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kernelexp.data.base import Arrays, DatasetSource, Shape
from kernelexp.data.held_out import check_held_out, held_out_count
from kernelexp.engine.checks import one_of, refuse

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = ("refuse", "impute")


class Tables(NamedTuple):
    """Rows to train on, and to test on where they are others; what messages call both."""

    rows: pa.Table
    called: str
    target: str
    test: pa.Table | None = None
    test_called: str = ""


@dataclass(frozen=True)
class Rows(DatasetSource):
    """Numbers are coordinates, texts and truth values one coordinate for each level.

    Attributes:
        target: the column that is predicted: texts, truth values or few whole numbers are labels, other numbers
            targets (see ``task``).
        test: rows held out to test on: a share or a number.
        drop: columns that are not used.
        group: a column whose equal values never stand on both sides: patients, users. Not used otherwise.
        time: a column, numbers or dates, of which the latest rows are tested on. Not used otherwise.
        missing: ``refuse`` rows with missing values, or ``impute``: the median of training rows; of texts "missing"
            is a level.
    """

    scale: str = "standard"
    target: str | None = None
    test: float | int | str = 0.2
    drop: list[str] = field(default_factory=list)
    group: str | None = None
    time: str | None = None
    missing: str = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("missing", self.missing, _MISSING)
        if isinstance(self.test, str):
            self._check_test_file(self.test)
        else:
            check_held_out("test", self.test)
        if self.group is not None and self.time is not None:
            raise refuse("time", self.time, f"null with dataset.group={self.group}")

    def _check_taken_of(self, rows: int) -> None:
        """Refuse to take more points than so many rows are, where no groups have a say."""
        if self.group is None and not isinstance(self.test, str):
            n_test = held_out_count(self.test, rows, "test")
            self.check_taken(rows - n_test, n_test)

    def _shape(self, rows: int, n_features: int, n_outputs: int) -> Shape | None:
        """The sizes of so many rows of a table as it is; None where columns play other parts."""
        roles = self.target or self.drop or self.group or self.time
        if roles or self.task != "auto" or isinstance(self.test, str):
            return None
        n_test = held_out_count(self.test, rows, "test")
        return self.taken(Shape(rows - n_test, n_test, n_features, n_outputs))

    def _check_test_file(self, test: str) -> None:
        raise refuse("test", test, "a share between 0 and 1, or a whole number of points")

    @abstractmethod
    def tables(self, data_dir: Path) -> Tables:
        """Fetch the rows.

        Raises:
            ValueError: in one line, for what is no table.
            FileNotFoundError: in one line, where they can not be had.
        """

    def read(self, data_dir: Path, seed: int) -> Arrays:
        # Here, not above: Arrow is not loaded for other data sets.
        from kernelexp.data.table_file import arrays

        return arrays(self, self.tables(data_dir), seed)
