"""Columns of a table as numbers: what was found in the training rows, kept for every later table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernelexp.data.column_kinds import (
    MISSING,
    TRUTHS,
    as_levels,
    as_texts,
    count_missing,
    drop_option,
    is_number,
    is_text,
    listed,
    refuse_bytes,
    refuse_infinite,
    refuse_missing,
    refuse_no_numbers,
    refuse_no_texts,
    shown,
)

# Texts that one column may hold, each of which becomes a coordinate.
_MOST_LEVELS = 1000
# So many, in more than so many of the rows, are rather names of the rows, or numbers and dates written as texts.
_MANY_LEVELS, _MOST_ROWS = 20, 0.5
# Texts that are named of those that training rows do not have.
_NAMED = 3


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as in the file's first line.
        levels: its texts in training rows, each a coordinate that is 1 where the row has it; None: a number.
        fill: of a number, what is taken where it is missing, the median of training rows; None: nothing may be
            missing.
    """

    name: str
    levels: tuple[str, ...] | None = None
    fill: float | None = None

    @property
    def width(self) -> int:
        """Coordinates it takes."""
        return 1 if self.levels is None else len(self.levels)


@dataclass(frozen=True)
class Columns:
    """How rows of a table become points, and labels numbers.

    Attributes:
        features: the columns in the order of the coordinates.
        target: name of the column that is predicted.
        classes: labels as they are written, in the order of their numbers; None: the column has numbers.
        impute: whether values may be missing: of numbers ``fill`` is taken, of texts "(missing)" is a level.
    """

    features: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] | None
    impute: bool = False

    @classmethod
    def fit(
        cls, table: pa.Table, names: Sequence[str], target: str, impute: bool, what: str
    ) -> Columns:
        """Look at training rows.

        Raises:
            ValueError: in one line that begins with ``what``, for columns that are no numbers, texts or truth values,
                or have missing values that may not be filled in, and for one label alone.
        """
        features = tuple(_fitted(name, table[name], impute, what) for name in names)
        for column in features:
            _warn_of_names(column, table[column.name], what)
        return cls(features, target, _classes(target, table[target], what), impute)

    def fitted_to(self, table: pa.Table, what: str) -> Columns:
        """With the levels and medians of some of the training rows; labels stay.

        Raises:
            ValueError: in one line, for a column without a value there.
        """
        names = [column.name for column in self.features]
        features = tuple(_fitted(name, table[name], self.impute, what) for name in names)
        return replace(self, features=features)

    @property
    def width(self) -> int:
        """Coordinates of a point."""
        return sum(column.width for column in self.features)

    @property
    def names(self) -> list[str]:
        """Of the coordinates, ``column`` or ``column=level``."""
        return [
            name
            for column in self.features
            for name in (
                [column.name]
                if column.levels is None
                else [f"{column.name}={level}" for level in column.levels]
            )
        ]

    @property
    def texts(self) -> list[str]:
        """Of the columns that a later file is to have, those to be read as texts, see ``read_table``."""
        found = [column.name for column in self.features if _are_texts(column.levels)]
        return found + ([self.target] if _are_texts(self.classes) else [])

    def check(self, table: pa.Table, what: str) -> None:
        """Refuse rows that ``points`` cannot make points of: all of them, before some are made points.

        Raises:
            ValueError: in one line that begins with ``what``, for missing columns or values, texts for numbers, or infinite ones.
        """
        absent = [column.name for column in self.features if column.name not in table.column_names]
        if absent:
            there = listed(table.column_names)
            raise ValueError(
                f"{what}: has no column {', '.join(map(shown, absent))}; there are {there}"
            )
        for column in self.features:
            values = table[column.name]
            refuse_bytes(column.name, values, what)
            if column.levels is None:
                refuse_no_numbers(column.name, values, what)
                refuse_infinite(column.name, values, what)
            else:
                refuse_no_texts(column.name, values, column.levels, what)
            if not self.impute:
                refuse_missing(column.name, values, what, "fill them in")

    def points(self, table: pa.Table, what: str) -> np.ndarray:
        """Rows as points (m, d), float64; a text that training rows do not have is in none of the levels.

        Raises:
            ValueError: as ``check``.
        """
        self.check(table, what)
        return self.encode(table)

    def encode(self, table: pa.Table) -> np.ndarray:
        """``points`` of rows that have passed ``check``."""
        x = np.zeros((len(table), self.width))
        start = 0
        for column in self.features:
            values, stop = table[column.name], start + column.width
            if column.levels is None:
                x[:, start] = _numbers(column, values)
            else:
                texts = as_levels(values, column.levels)
                places = pc.index_in(texts, pa.array(column.levels, pa.string()))
                known = places.is_valid().to_numpy(False)
                x[known, start + places.drop_null().to_numpy()] = 1
            start = stop
        return x

    def unknown(self, table: pa.Table) -> list[str]:
        """Texts that training rows do not have, ``column=text``."""
        found = []
        for column in self.features:
            if column.levels is not None:
                texts = as_levels(table[column.name], column.levels)
                there = set(pc.unique(texts).to_pylist())
                found += [f"{column.name}={text}" for text in there.difference(column.levels)]
        return sorted(found)

    def unknown_in_words(self, table: pa.Table) -> str:
        """The first of them; empty where there is none."""
        found = self.unknown(table)
        return ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")

    def targets(self, table: pa.Table, what: str) -> np.ndarray:
        """The target column: labels as int64 (m,), or numbers (m,) of the type they have.

        Raises:
            ValueError: for labels that training rows do not have, texts for numbers, or missing ones.
        """
        values = table[self.target]
        refuse_missing(self.target, values, what, "remove such rows")
        if self.classes is None:
            refuse_no_numbers(self.target, values, what)
            return np.array(values.to_numpy())
        texts = as_levels(values, self.classes)
        places = pc.index_in(texts, pa.array(self.classes, pa.string()))
        if places.null_count:
            row = int(np.flatnonzero(places.is_null().to_numpy(False))[0])
            raise ValueError(
                f"{what}: {self.target}={texts[row]} is not among the labels of training rows "
                f"({listed(self.classes)}); leave such rows out, or take another seed"
            )
        return np.array(places.to_numpy(), dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        features = [[c.name, None if c.levels is None else list(c.levels), c.fill]
                    for c in self.features]  # fmt: skip
        classes = None if self.classes is None else list(self.classes)
        return {
            "features": features,
            "target": self.target,
            "classes": classes,
            "impute": self.impute,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Columns:
        """What ``to_dict`` made."""
        features = tuple(
            Column(name, None if levels is None else tuple(levels), fill)
            for name, levels, fill in stored["features"]
        )
        classes = stored["classes"]
        # Older models do not say it: then what was filled in does.
        filled = any(c.fill is not None or MISSING in (c.levels or ()) for c in features)
        classes = None if classes is None else tuple(classes)
        return cls(features, stored["target"], classes, stored.get("impute", filled))


def _are_texts(levels: Sequence[str] | None) -> bool:
    """And neither numbers nor truth values, as which Arrow reads all that is true or false."""
    return levels is not None and not set(levels) <= {*TRUTHS, MISSING}


def _fitted(name: str, values: pa.ChunkedArray, impute: bool, what: str) -> Column:
    kind = values.type
    refuse_bytes(name, values, what)
    if count_missing(values) == len(values):
        raise ValueError(f"{what}: {name}: has no value at all; {drop_option(name)} leaves it out")
    if not impute:
        refuse_missing(name, values, what, "dataset.missing=impute fills them in")
    if is_number(kind):
        numbers = pc.drop_null(_float(values)).to_numpy()
        numbers = numbers[~np.isnan(numbers)]
        return Column(name, fill=float(np.median(numbers)) if impute else None)
    if not is_text(kind):
        reason = (
            "dates and times are no numbers"
            if pa.types.is_temporal(kind)
            else "neither numbers nor texts"
        )
        raise ValueError(
            f"{what}: {name}: {kind}; {reason}: make numbers of it (a year, an age in days), or leave "
            f"it out by {drop_option(name)}"
        )
    levels = sorted(pc.unique(as_texts(values)).to_pylist())
    if len(levels) > _MOST_LEVELS:
        raise ValueError(
            f"{what}: {name}: {len(levels):,} different texts, {_MOST_LEVELS:,} at most; leave it out by {drop_option(name)}"
        )
    return Column(name, levels=tuple(levels))


def _warn_of_names(column: Column, values: pa.ChunkedArray, what: str) -> None:
    name, rows = column.name, len(values) - values.null_count
    there = [level for level in column.levels or () if level != MISSING]
    if len(there) >= _MANY_LEVELS and len(there) > _MOST_ROWS * rows:
        warnings.warn(
            f"{what}: {name}: {len(there):,} different texts in {rows:,} training rows, as {there[0]!r}, each a "
            f"coordinate of its own; write numbers as 12345.6 and dates as YYYY-MM-DD, or leave it out by {drop_option(name)}",
            UserWarning,
            stacklevel=2,
        )


def _classes(target: str, values: pa.ChunkedArray, what: str) -> tuple[str, ...] | None:
    if is_number(values.type):
        return None
    refuse_bytes(target, values, what)
    if not is_text(values.type):
        raise ValueError(f"{what}: {target}: {values.type}; a target must be numbers or labels")
    labels = tuple(sorted(pc.unique(as_texts(values)).to_pylist()))
    if len(labels) < 2:
        raise ValueError(
            f"{what}: {target}: all labels of training rows are {labels[0]}; there must be two classes or more"
        )
    return labels


def _float(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(values, pa.float64(), safe=False)


def _numbers(column: Column, values: pa.ChunkedArray) -> np.ndarray:
    numbers: np.ndarray = pc.fill_null(_float(values), float("nan")).to_numpy()
    return numbers if column.fill is None else np.where(np.isnan(numbers), column.fill, numbers)
