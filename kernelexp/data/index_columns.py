"""Columns that number the rows of a file: pandas' index, which is the label where rows were sorted by it once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from itertools import takewhile

import pyarrow as pa

from kernelexp.data.column_kinds import listed

# What to_csv calls an index, and read_csv then; another one for each time that it was written again.
_NAMELESS = re.compile(r"(Unnamed: \d+(\.\d+)*)?")


def index_columns(table: pa.Table) -> list[str]:
    """Those that the file's metadata call pandas' index, and whole numbers without a name in the first columns."""
    stored = (table.schema.pandas_metadata or {}).get("index_columns", ())
    nameless = takewhile(
        lambda field: _NAMELESS.fullmatch(field.name) and pa.types.is_integer(field.type),
        table.schema,
    )
    found = {field.name for field in nameless}
    # An index that only counts has no column, but a description here.
    found.update(name for name in stored if isinstance(name, str))
    return [name for name in table.column_names if name in found]


def without_index(table: pa.Table, names: Collection[str], what: str) -> list[str]:
    """Those of the names that are no index; of others a warning says in one line that they are left out."""
    index = [name for name in index_columns(table) if name in names]
    if index:
        warnings.warn(
            f"{what}: not predicted from, since pandas writes it to number or name the rows: {listed(index)}; if it is "
            "an input, make a named column of it (reset_index) and save with index=False",
            UserWarning,
            stacklevel=2,
        )
    return [name for name in names if name not in index]
