"""Build a report: read runs, make tables and pictures, write the page, and say what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kernelexp.report import safe
from kernelexp.report.comparison import comparison
from kernelexp.report.figures import Figure, discover
from kernelexp.report.making import Wanted, make
from kernelexp.report.options import Options
from kernelexp.report.page import Picture, write
from kernelexp.report.selection import Selection
from kernelexp.report.side_by_side import side_by_side
from kernelexp.report.store import Store

# No claims.
_NONE = pd.DataFrame()


@dataclass(frozen=True)
class Report:
    """What was built.

    Attributes:
        pictures: the figures of the page.
        notes: what is missing, a line each.
        runs: how many runs were read.
        page: where the page is.
        text: tables for the terminal.
    """

    pictures: list[Picture]
    notes: list[str]
    runs: int
    page: Path
    text: str = ""


def build(options: Options) -> Report:
    """Write pictures, tables and ``index.html``.

    Raises:
        ValueError: if the store does not open, an option is wrong, or there is nothing to report on.
    """
    complaints: list[str] = []
    known = discover(complaints)
    try:
        options.check(known)
    except ValueError as error:  # perhaps of a figure whose file could not be imported
        raise ValueError("; ".join([*complaints, str(error)])) from error
    store = Store(options.store)
    if options.compare is not None:
        return _compare(store, options, *options.compare)
    selection = Selection(store, options.experiments, options.parent, options.query)
    selected = selection.read()
    if not selected.frames:
        raise ValueError("; ".join([*complaints, *selected.notes]))
    with options.writing():
        options.out.mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    notes = [*complaints, *selected.notes]
    for experiment, runs in selected.frames.items():
        names = options.figures or _of_its_name(experiment, known)
        drawn = [
            make(Wanted(name, known[name], experiment, runs), store, options)
            for name in names or [name for name, figure in known.items() if figure.general]
        ]
        pictures += [made.picture for made in drawn if made.picture is not None]
        if names:
            notes += [note for made in drawn for note in made.notes]
        elif options.experiments and not any(made.picture for made in drawn):
            notes.append(
                f"{experiment}: no figure has this name, so its runs stand in the table alone; "
                "--figure NAME draws one from them"
            )
    every = pd.concat(selected.frames.values(), ignore_index=True)
    table = comparison(every)
    claimed = pd.concat([_NONE, *(picture.claims for picture in pictures)], ignore_index=True)
    page = options.out / "index.html"
    with options.writing():
        (options.out / "comparison.csv").write_text(safe.csv(table), encoding="utf-8")
        if len(claimed):
            (options.out / "claims.csv").write_text(safe.csv(claimed), encoding="utf-8")
        write(page, options.store, pictures, notes, every, table, claimed)
    return Report(pictures, notes, len(every), page)


def _compare(store: Store, options: Options, first: str, second: str) -> Report:
    """``compare.html``, and a CSV file of its last table."""
    found = side_by_side(store, first, second)
    page = options.out / "compare.html"
    with options.writing():
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "compare.csv").write_text(safe.csv(found.tables[-1][1]), encoding="utf-8")
        write(
            page, options.store, [], found.notes, found.runs, comparison(found.runs), _NONE, found
        )
    tables = (
        f"{title}\n{table.to_string(index=False, float_format='{:.5g}'.format)}\n"
        for title, table in found.tables
        if len(table)
    )
    return Report([], found.notes, len(found.runs), page, "\n".join(tables))


def _of_its_name(experiment: str, known: dict[str, Figure]) -> list[str]:
    """The figures that show the runs of an experiment without being asked to."""
    return [name for name, figure in known.items() if experiment in (figure.experiment, name)]
