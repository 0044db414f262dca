"""Files of tables, by Arrow: read, cut into training and test rows, and made numbers."""

from __future__ import annotations

import difflib
import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernelexp.data.arrow_files import READERS
from kernelexp.data.base import Arrays
from kernelexp.data.between_files import refuse_shared_groups, warn_of_earlier_rows
from kernelexp.data.column_kinds import (
    drop_option,
    listed,
    refuse_missing,
    refuse_unordered,
    refuse_words_among_numbers,
    shown,
)
from kernelexp.data.columns import Columns
from kernelexp.data.held_out import held_out
from kernelexp.data.index_columns import without_index
from kernelexp.data.large import empty
from kernelexp.engine.checks import refuse

if TYPE_CHECKING:
    from kernelexp.data.rows import Rows, Tables

# What separates columns of a text file, by its ending; and what may be there instead, with what is to be done.
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_OTHERS = {
    ";": "by semicolons; save it with commas, and numbers with decimal points",
    "\t": "by tabs; let its name end in .tsv",
}
# Rows made numbers together.
_TOGETHER = 1 << 16


class _Part:
    """Some rows of a table, of which a column is made when it is asked for."""

    def __init__(self, table: pa.Table, marks: np.ndarray) -> None:
        self.table, self.marks = table, marks
        self.column_names = table.column_names

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        return self.table[name].filter(pa.array(self.marks))

    def __len__(self) -> int:
        return int(self.marks.sum())

    def only(self, rows: np.ndarray) -> _Part:
        """Some of its rows, by their places."""
        marks = np.zeros_like(self.marks)
        marks[np.flatnonzero(self.marks)[rows]] = True
        return _Part(self.table, marks)

    def points(self, columns: Columns) -> np.ndarray:
        """Its rows, which have passed ``Columns.check``, as points (m, d)."""
        x, filled = empty((len(self), columns.width)), 0
        for start in range(0, len(self.table), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            part = self.table.slice(start, _TOGETHER).filter(pa.array(self.marks[some]))
            x[filled : filled + len(part)] = columns.encode(part)
            filled += len(part)
        return x


def arrays(source: Rows, tables: Tables, seed: int) -> Arrays:
    """Training and test rows of a table as arrays.

    Raises:
        ValueError: in one line, for columns or values that cannot be used.
    """
    used = _features(source, tables)
    _refuse_words(source, tables, used)
    if tables.test is not None:
        if source.group is not None:
            refuse_shared_groups(source.group, tables)
        if source.time is not None:
            warn_of_earlier_rows(source.time, tables)
        train, test = (_Part(t, np.ones(len(t), bool)) for t in (tables.rows, tables.test))
        here = tables.test_called
    else:
        held = _held_out(source, tables, seed)
        train, test, here = _Part(tables.rows, ~held), _Part(tables.rows, held), tables.called
    columns = Columns.fit(train, used, tables.target, source.missing == "impute", tables.called)
    if source.missing == "refuse":  # of test rows, too, also where they come from another file
        for name in (name for name in used if name in test.column_names):
            refuse_missing(name, test[name], here, "dataset.missing=impute fills them in")
    columns.check(train, tables.called)
    columns.check(test, here)
    if tables.test is not None or source.group or source.time:
        # Of rows drawn one by one they are rare texts; of others they may be all.
        _warn_of_unknown(columns.unknown_in_words(test), here)

    def refit(rows: np.ndarray) -> tuple[Columns, np.ndarray, np.ndarray]:
        fitted = columns.fitted_to(train.only(rows), tables.called)
        return fitted, train.points(fitted), test.points(fitted)

    return Arrays(
        train.points(columns),
        columns.targets(train, tables.called),
        test.points(columns),
        columns.targets(test, here),
        columns,
        None if source.group is None else _codes(train[source.group]),
        None if source.time is None else _codes(train[source.time]),
        # To numbers none of which is missing nothing is fitted here.
        refit if columns.impute or any(c.levels is not None for c in columns.features) else None,
    )


def _features(source: Rows, tables: Tables) -> list[str]:
    """The columns that points are made of."""
    there = tables.rows.column_names
    roles = {"target": tables.target, "group": source.group, "time": source.time}
    for key, name in [*roles.items(), *(("drop", name) for name in source.drop)]:
        if name is not None and name not in there:
            near = difflib.get_close_matches(name, there, 1)
            hint = f" (did you mean {shown(near[0])}?)" if near else ""
            allowed = f"a column of {tables.called}: {listed(there)}{hint}"
            raise refuse(f"dataset.{key}", name, allowed)
    for name in filter(None, roles.values()):
        refuse_missing(name, tables.rows[name], tables.called, "remove such rows")
    if source.time is not None:
        refuse_unordered(source.time, tables.rows[source.time], tables.called)
    used = [name for name in there if name not in {*roles.values(), *source.drop}]
    used = without_index(tables.rows, used, tables.called)
    if not used:
        raise ValueError(f"{tables.called}: no column is left to predict {tables.target} from")
    return used


def _refuse_words(source: Rows, tables: Tables, used: Sequence[str]) -> None:
    """Refuse words among numbers, in inputs and, unless they are said to be labels, in targets."""
    for name in used:
        do = f"leave it empty, or leave the column out by {drop_option(name)}"
        refuse_words_among_numbers(name, tables.rows[name], tables.called, do)
    there = [(tables.rows, tables.called)]
    if tables.test is not None:
        there.append((tables.test, tables.test_called))
    for rows, called in there:
        if tables.target not in rows.column_names:
            raise ValueError(f"{called}: has no column {tables.target}")
        if source.task != "classification":
            do = "remove the row; dataset.task=classification takes all for labels"
            refuse_words_among_numbers(tables.target, rows[tables.target], called, do)


def _warn_of_unknown(named: str, what: str) -> None:
    """Say which texts of test rows are in no training row."""
    if named:
        warnings.warn(
            f"{what}: test rows have texts that are not in training rows: {named}; counted as none of the known",
            UserWarning,
            stacklevel=2,
        )


def _held_out(source: Rows, tables: Tables, seed: int) -> np.ndarray:
    """Which rows are tested on."""
    table, wanted = tables.rows, source.test
    assert not isinstance(wanted, str)
    if len(table) < 4:
        raise ValueError(f"{tables.called}: {len(table)} rows; there must be 4 or more")
    labels = table[tables.target]
    targets = pa.types.is_floating(labels.type) or source.task == "regression"
    return held_out(
        wanted,
        len(table),
        np.random.default_rng([seed, len(table)]),
        labels=None if targets else _codes(labels),
        groups=None if source.group is None else _codes(table[source.group]),
        times=None if source.time is None else _codes(table[source.time]),
        key="dataset.test",
    )


def read_table(path: Path, texts: Collection[str] = ()) -> pa.Table:
    """A file by its ending; ``texts``: columns that are texts, also where all of a CSV file look like numbers.

    Raises:
        ValueError: in one line with the file's name, for what is not such a file, or has columns of one name.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: must be a file whose name ends in {', '.join(READERS)}")
    try:
        table = reader(path, texts)
        names = table.column_names  # decoded here
    except FileNotFoundError:
        raise
    except Exception as error:
        utf_16 = isinstance(error, pa.ArrowInvalid) and _starts_as_utf_16(path)
        if isinstance(error, UnicodeDecodeError) or utf_16:
            raise ValueError(
                f"{path}: names of columns are not UTF-8; save the file as UTF-8"
            ) from error
        if isinstance(error, pa.ArrowInvalid):
            if "invalid UTF8" in str(error):
                raise ValueError(
                    f"{path}: has texts that are not UTF-8; save it as UTF-8"
                ) from error
            _refuse_separator(path, error)
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a readable {path.suffix[1:]} file ({reason})") from error
    if len(names) == 1:
        _refuse_separator(path)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {len(twice)} names of columns occur twice, as {twice[0]!r}")
    if not len(table):
        raise ValueError(f"{path}: has no rows")
    return _plain(table)


def _plain(table: pa.Table) -> pa.Table:
    """Decimals as floating-point numbers, and texts of newer writers as the texts that Arrow computes with."""
    for i, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_decimal(kind):
            plain = pa.float64()
        elif pa.types.is_string_view(kind):
            plain = pa.string()
        else:
            continue
        table = table.set_column(i, field.with_type(plain), table.column(i).cast(plain))
    return table


def _starts_as_utf_16(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)


def _refuse_separator(path: Path, error: Exception | None = None) -> None:
    """Refuse a file of one column, or that cannot be read, if its first line has another separator."""
    own = _SEPARATORS.get(path.suffix.lower())
    if own is None:
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(1 << 16)
    for other, do in _OTHERS.items():
        if other in first and own not in first:
            raise ValueError(f"{path}: its columns are separated {do}") from error


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    """Places of the values among the distinct ones in order, (n,)."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    distinct = pc.unique(values)
    order = pc.sort_indices(distinct)
    places = pc.index_in(values.combine_chunks(), distinct.take(order))
    codes: np.ndarray = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
