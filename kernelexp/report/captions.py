"""What stands under a figure: seeds, settings, commit, device, runs."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import pandas as pd

from kernelexp.metrics import RUN
from kernelexp.report.frames import HERE, counted
from kernelexp.report.store import typed

_SHORT_ID = 8
# Settings that a reader wants to see; the others stand in the runs themselves.
_SETTINGS = (
    "dataset", "kernel", "bandwidth", "n", "solver", "p", RUN.batch_size, "noise", "noise_kind", "dtype",
    "seed", "scale",
)  # fmt: skip


def short_id(run: str) -> str:
    """The first eight digits of a run's id."""
    return run[:_SHORT_ID]


def seeds(table: pd.DataFrame) -> str:
    """``3 seeds``, ``1 to 3 seeds``; empty where the table does not count them."""
    if "seeds" not in table:
        return ""
    counts = table[table["source"] == HERE]["seeds"].dropna().astype(int)
    if counts.empty:
        return ""
    low, high = counts.min(), counts.max()
    return counted(high, "seed") if low == high else f"{low} to {counted(high, 'seed')}"


def spread(table: pd.DataFrame) -> str:
    """What a marker and its bar are."""
    several = seeds(table)
    if not several or several == "1 seed":
        return "One seed, so no spread is shown." if several else ""
    return f"Mean over {several}; bars and bands from the smallest to the largest value."


def settings(runs: pd.DataFrame) -> str:
    """One value, a few values or a range for each setting: ``n 500 to 2,000; kernel gaussian``."""
    parts = []
    for label in _SETTINGS:
        values = runs[label].dropna() if label in runs else pd.Series(dtype=object)
        if len(values):
            parts.append(f"{label.replace('_', ' ')} {listed(values)}")
    return "; ".join(parts)


def listed(values: Iterable[Any]) -> str:
    """Up to six values, or the first and the last."""
    distinct = sorted({_number(value) for value in values}, key=_place)
    texts = [v if isinstance(v, str) else _text(v) for v in distinct]
    return (
        ", ".join(texts) if len(texts) <= 6 else f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    )


def _number(value: Any) -> float | str:
    # NumPy's integers are no int.
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _place(value: float | str) -> tuple[bool, float, str]:
    """Numbers first, in their order, texts of numbers among them: a column with one word in it is all text."""
    try:
        return False, float(value), str(value)
    except ValueError:
        return True, 0.0, str(value)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else _text(float(value))


def _text(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"


def rows(table: pd.DataFrame, settings: Iterable[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a small table, without those ``settings`` that have one value throughout."""
    told = {*settings} if len(table) > 1 else set()
    kept = [c for c in table if c not in told or table[c].nunique(dropna=False) > 1]
    body = [[_cell(value) for value in row] for row in table[kept].itertuples(index=False)]
    return [name.replace("_", " ") for name in kept], body


def commits(runs: pd.DataFrame) -> str:
    """``5e6fc4c``, with a mark where the tree had changes."""
    found = runs[["commit", "dirty"]].dropna(subset=["commit"]).drop_duplicates()
    marks = [f"{c[:7]}{' with changes' if d else ''}" for c, d in found.itertuples(index=False)]
    return ", ".join(sorted(marks)) or "unknown"


def devices(runs: pd.DataFrame) -> str:
    """The devices' names; of several, that their times are no comparison."""
    names = sorted(set(runs["device_name"].dropna().astype(str)))
    told = " (several machines, whose seconds do not compare)" if len(names) > 1 else ""
    return ("; ".join(names) or "unknown") + told


def days(runs: pd.DataFrame) -> str:
    """The day of the runs, or the first and the last."""
    known = runs["started"].dropna()
    if known.empty:
        return "unknown day"
    first, last = (f"{when:%Y-%m-%d}" for when in (known.min(), known.max()))
    return first if first == last else f"{first} to {last}"


def below(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    """The small line inside a picture, so that it can stand alone."""
    scales = listed(runs["scale"].dropna()) if "scale" in runs else ""
    parts = [
        seeds(table),
        f"scale {scales}" if scales else "",
        f"commit {commits(runs)}",
        devices(runs),
        days(runs),
    ]
    return " · ".join(part for part in parts if part)


def unsolved(runs: pd.DataFrame) -> str:
    """How many runs have a warning of the solver, with the commonest reason; empty if none."""
    reasons = runs["warning"].value_counts()
    if reasons.empty:
        return ""
    more = f" (and {counted(len(reasons) - 1, 'other reason')})" if len(reasons) > 1 else ""
    return (
        f"{counted(int(reasons.sum()), 'run')} with a warning of the solver, marked \u2020 under All runs: "
        f"{reasons.index[0]}{more}"
    )


def sharing(runs: pd.DataFrame, point: Iterable[str]) -> str:
    """A warning where runs of one point differ in more than the seed; empty where none do."""
    columns = [c for c in point if c in runs]
    differ: set[str] = set()
    for _, own in runs.groupby(columns, dropna=False):
        differ |= varied(own)
    if not differ:
        return ""
    return (
        f"runs that differ in {', '.join(sorted(differ))} share a point; take some with --filter or "
        "--parent"
    )


def varied(runs: pd.DataFrame) -> set[str]:
    """The settings that have more than one value among runs that have them."""
    texts: dict[str, set[str]] = {}
    for own in runs["settings"]:
        for name, text in own.items():
            texts.setdefault(name, set()).add(text)
    return {name for name, found in texts.items() if differ(sorted(found))}


def differ(texts: list[str]) -> bool:
    """Whether the values are not all one: 0.1 and 1e-1 are two texts, of one value."""
    return any(_canonical(text) != _canonical(texts[0]) for text in texts[1:])


def _canonical(text: str) -> Any:
    [single] = typed(pd.Series([text], dtype=object))
    return "None" if pd.isna(single) else single
