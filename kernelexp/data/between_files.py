"""Test rows of another file: whether their groups and times are apart from those of training rows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from kernelexp.data.column_kinds import as_texts, refuse_unordered
from kernelexp.engine.checks import refuse

if TYPE_CHECKING:
    from kernelexp.data.rows import Tables


def refuse_shared_groups(name: str, tables: Tables) -> None:
    """Refuse groups that have rows in both files.

    Raises:
        ValueError: in one line.
    """
    if tables.test is None or name not in tables.test.column_names:
        return
    here, there = (
        set(as_texts(pa.chunked_array([pc.unique(table[name].drop_null())])).to_pylist())
        for table in (tables.rows, tables.test)
    )
    if shared := sorted(here & there):
        raise refuse(
            "dataset.group",
            name,
            f"a column of which no value has rows in both {tables.called} and {tables.test_called}; {len(shared):,} of "
            f"{len(there):,} have, as {shared[0]}: remove these rows from one of them",
        )


def warn_of_earlier_rows(name: str, tables: Tables) -> None:
    """Say in one line where test rows are before the last training row.

    That is no error: whose test rows they are may have chosen them so, and validation still has the latest training
    rows.

    Raises:
        ValueError: in one line, for times of both files that have no common order.
    """
    if tables.test is None or name not in tables.test.column_names:
        return
    times = tables.test[name]
    if times.null_count == len(times):
        return
    refuse_unordered(name, times, tables.test_called)
    last = pc.max(tables.rows[name])
    try:
        earlier = pc.sum(pc.less(times, last)).as_py() or 0
    except pa.ArrowException as error:
        raise refuse(
            "dataset.time",
            name,
            f"of one type: in {tables.called} it is {last.type}, in {tables.test_called} {times.type}",
        ) from error
    if earlier:
        warnings.warn(
            f"{tables.test_called}: {earlier:,} of {len(times):,} test rows are before the last training row "
            f"({name}={last}): their scores are not those of later rows",
            UserWarning,
            stacklevel=2,
        )
