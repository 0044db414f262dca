"""Build a report: read runs, make tables and pictures, write the page, and say what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kernelexp.report import safe
from kernelexp.report.comparison import comparison
from kernelexp.report.figures import Figure, discover
from kernelexp.report.making import Wanted, make
from kernelexp.report.options import Options
from kernelexp.report.page import Picture, write
from kernelexp.report.selection import Selection
from kernelexp.report.store import Store


@dataclass(frozen=True)
class Report:
    """What was built.

    Attributes:
        pictures: the figures of the page.
        notes: what is missing, a line each.
        runs: how many runs were read.
    """

    pictures: list[Picture]
    notes: list[str]
    runs: int


def build(options: Options) -> Report:
    """Write pictures, tables and ``index.html``.

    Raises:
        ValueError: if the store does not open, an option is wrong, or there is nothing to report on.
    """
    known = discover()
    options.check(known)
    store = Store(options.store)
    selection = Selection(store, options.experiments, options.parent, options.query)
    selected = selection.read()
    if not selected.frames:
        raise ValueError("; ".join(selected.notes))
    with options.writing():
        options.out.mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    notes = list(selected.notes)
    for experiment, runs in selected.frames.items():
        names = options.figures or _of_its_name(experiment, known)
        if not names and options.experiments:
            notes.append(
                f"{experiment}: no figure has this name, so its runs stand in the table alone; "
                "--figure NAME draws one from them"
            )
        for name in names:
            made = make(Wanted(name, known[name], experiment, runs), store, options)
            pictures += [made.picture] if made.picture is not None else []
            notes += made.notes
    every = pd.concat(selected.frames.values(), ignore_index=True)
    table = comparison(every)
    with options.writing():
        (options.out / "comparison.csv").write_text(safe.csv(table), encoding="utf-8")
        page = options.out / "index.html"
        write(page, options.store, pictures, notes, every, table)
    return Report(pictures, notes, len(every))


def _of_its_name(experiment: str, known: dict[str, Figure]) -> list[str]:
    """The figures that show the runs of an experiment without being asked to."""
    return [name for name, figure in known.items() if experiment in (figure.experiment, name)]
