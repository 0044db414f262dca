"""Text from the store where it could do harm: names of files, cells of spreadsheets, labels in pictures."""

from __future__ import annotations

import hashlib
import re

import pandas as pd

# Spreadsheets take a cell that starts so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Of bytes, so that endings fit into the 255 that file systems allow.
_LONGEST_FILE = 120
_LONGEST_LABEL = 24
# Columns that pictures do not show, or only as this package wrote them.
_NOT_LABELS = {"bytes", "source", "read", "runs"}


def file_name(name: str) -> str:
    """The name as part of a file name: no separators, no dots in front, at most 120 bytes.

    A name that had to be changed ends in a digest of what it was, so that two stay two.
    """
    kept = re.sub(r"[^\w.-]+", "_", name).lstrip(".-")
    kept = kept.encode()[:_LONGEST_FILE].decode(errors="ignore")
    if kept == name != "":
        return name
    return f"{kept or '_'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def csv(table: pd.DataFrame) -> str:
    """The table as CSV; text that a spreadsheet would run as a formula starts with an apostrophe."""
    return str(table.map(_cell).rename(columns=_cell).to_csv(index=False, lineterminator="\n"))


def _cell(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)  # a negative number that stands among words
    except ValueError:
        return f"'{value}"
    return value


def labels(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its text as pictures can show it: short, and no mathematics between dollars.

    Names that differ still do, so that groups of the table stay as they were; one name is one label in all columns.
    """
    text = [
        c
        for c in table
        if c not in _NOT_LABELS and any(isinstance(value, str) for value in table[c])
    ]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted({value for c in text for value in table[c] if isinstance(value, str)}):
        short, again = label(name), 2
        while short in taken:
            short, again = f"{label(name)} ({again})", again + 1
        found[name] = short
        taken.add(short)
    return table.assign(**{c: table[c].map(lambda value: found.get(value, value)) for c in text})


def label(name: str) -> str:
    """One name as a label: its begin and its end where it is long."""
    name = " ".join(name.split())
    if len(name) > _LONGEST_LABEL:
        name = f"{name[: _LONGEST_LABEL - 11]}…{name[-10:]}"
    # Matplotlib leaves labels that start with "_" out of a legend.
    return (" " if name.startswith("_") else "") + escaped(name)


def escaped(text: str) -> str:
    """Text that Matplotlib shows as it is."""
    return text.replace("$", r"\$")
