"""One figure of a report: from runs to its files and to what the page shows of it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kernelexp.metrics import DATA, RUN, SELECTION
from kernelexp.report import captions, safe
from kernelexp.report.drawing import draw
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, here
from kernelexp.report.options import Options
from kernelexp.report.page import Picture
from kernelexp.report.paper_claims import claims
from kernelexp.report.store import PARTIAL, Store

# What is one value of what: a bandwidth says something beside its kernel and its data alone, n beside its data.
_WITHIN = {
    "bandwidth": ["dataset", "kernel"],
    "n": ["dataset"],
    "solver": ["dataset", "kernel"],
    **{column: ["dataset"] for column in DATA[1:]},
}


@dataclass(frozen=True)
class Wanted:
    """A figure that is to be drawn.

    Attributes:
        name: of the figure.
        figure: its declaration.
        experiment: whose runs it is drawn from.
        runs: those runs.
    """

    name: str
    figure: Figure
    experiment: str
    runs: pd.DataFrame

    @property
    def its_own(self) -> bool:
        """Whether the experiment is the one that the figure is made for."""
        return self.experiment in (self.name, self.figure.experiment)

    @property
    def title(self) -> str:
        """What notes call it."""
        return self.name if self.its_own else f"{self.experiment}-{self.name}"

    @property
    def stem(self) -> str:
        """What its files begin with."""
        return self.name if self.its_own else f"{safe.file_name(self.experiment)}-{self.name}"


@dataclass(frozen=True)
class Made:
    """What became of it.

    Attributes:
        picture: None where it could not be drawn.
        notes: why not, and what the reader must be told, a line each.
    """

    picture: Picture | None
    notes: list[str]


def make(wanted: Wanted, store: Store, options: Options) -> Made:
    """Write pictures and tables of one figure; whatever is wrong with it is a note, never an error."""
    data, picture = Data(wanted.runs), None
    try:
        picture = _picture(wanted, data, store, options)
    except ValueError as error:
        data.notes.append(f"not drawn: {error}")
    except Exception as error:  # a figure is anybody's code
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        data.notes.append(f"not drawn: {type(error).__name__}: {error} ({place})")
    return Made(picture, [f"{wanted.title}: {' '.join(note.split())}" for note in data.notes])


def _picture(wanted: Wanted, data: Data, store: Store, options: Options) -> Picture:
    figure, stem = wanted.figure, wanted.stem
    _choose(figure, data)
    if figure.history:
        data.history = store.history(data.runs["run"], figure.history)
    if figure.file:
        _keep_newest(data, DATA[0])
        drawn, data.runs = data.runs, _best(data.runs)
        data.file = store.file(data.runs["run"].iloc[0], figure.file)
    table = figure.table(data)
    _refuse_nothing(figure, data, table)
    # A figure with a history shows that of all its runs beside the file of one.
    used = drawn if figure.file and figure.history else data.runs
    extra = {f"{stem}_{end}.csv": of(table) for end, of in figure.extra.items()}
    tables = {f"{stem}.csv": safe.csv(table), **{n: safe.csv(f) for n, f in extra.items()}}
    for name, text in tables.items():
        (options.out / name).write_text(text, encoding="utf-8")
    files = [options.out / f"{stem}.{kind}" for kind in options.formats]
    drawn = draw(figure, table, captions.below(table, used), files, options.dpi)
    data.notes += drawn.complaints
    if options.log:
        data.notes += _log(store, used, files)
    return Picture(
        name=stem,
        title=figure.title,
        shows=figure.shows,
        expected=figure.expected,
        drawn=drawn,
        facts=[*figure.facts(table), captions.unsolved(used), captions.spread(table)],
        settings=captions.settings(used),
        provenance=f"Commit {captions.commits(used)}; {captions.devices(used)}; {captions.days(used)}.",
        runs=[captions.short_id(run) for run in used["run"]],
        sweeps=[captions.short_id(run) for run in used["parent"].dropna().unique()],
        tables=list(tables.items()),
        extra=[
            captions.rows(frame, (*figure.point, "source", "runs"))
            for frame in extra.values()
            if len(frame)
        ],
        claims=claims(figure, table),
    )


def _choose(figure: Figure, data: Data) -> None:
    """Leave out of the data the runs that the figure cannot show, or not beside the newest.

    Raises:
        ValueError: where no run is left.
    """
    runs = data.runs
    missing = [column for column in figure.needs if column not in runs or runs[column].isna().all()]
    if missing:
        others = RUN.test_accuracy in missing and RUN.test_r2 in runs
        hint = "; these are runs of regression, and the figure is of classes" if others else ""
        raise ValueError(f"no run has {', '.join(missing)}{hint}")
    for column in figure.needs:
        data.keep(data.runs[column].notna(), f"without {column}")
        data.keep(~data.runs[column].isin([np.inf, -np.inf]), f"with infinite {column}")
    for column in ("scale", *DATA[1:], *figure.one):  # data sets of one name are not one
        _keep_newest(data, column)
    shared = captions.sharing(data.runs, figure.point)
    data.notes += [shared] if shared else []


def _refuse_nothing(figure: Figure, data: Data, table: pd.DataFrame) -> None:
    """Axes without a point, or with the paper's alone, say less than a reason.

    Raises:
        ValueError: where nothing measured is in the table.
    """
    missing = [metric for metric in figure.history if data.history[metric].isna().all()]
    measured = here(table) if "source" in table else table
    if measured.empty or (missing and len(missing) == len(figure.history)):
        why = f"no run has {', '.join(missing)}" if missing else "these runs leave its table empty"
        raise ValueError(why)


def _best(runs: pd.DataFrame) -> pd.DataFrame:
    """The best run by held-out points; where none has been held out, the newest. A frame of one row."""
    whole = runs[runs[PARTIAL].isna()] if PARTIAL in runs else runs
    for name, tie_breaker in SELECTION.items():
        if name in whole and whole[name].notna().any():
            keys = [name, *([tie_breaker] if tie_breaker in whole else [])]
            whole = whole.sort_values(keys, ascending=[False, True][: len(keys)], kind="stable")
            break
    return whole.iloc[[0]]


def _keep_newest(data: Data, column: str) -> None:
    """Where runs differ in what a picture shows one value of, keep those like the newest run."""
    values = data.runs.get(column)
    if values is None or values.nunique(dropna=False) < 2:
        return
    known = values.astype(object).where(values.notna(), "none")
    groups = [data.runs[of] for of in _WITHIN.get(column, ())] or [pd.Series(0, values.index)]
    newest = known.groupby(groups, dropna=False).transform("first")
    same = known == newest
    shown, found = captions.listed(newest), captions.listed(known)
    data.keep(
        same, f"of another {column} than the newest ({shown} of {found}; --filter takes others)"
    )


def _log(store: Store, runs: pd.DataFrame, files: Sequence[Path]) -> list[str]:
    """Keep the pictures with the sweeps of the runs; why that failed, where it did."""
    for parent in runs["parent"].dropna().unique():
        try:
            for path in files:
                store.log(parent, path)
        except Exception as error:  # a server may forbid it; the report is built all the same
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            sweep = captions.short_id(parent)
            return [f"not logged to sweep {sweep} ({reason}); --no-log leaves it out"]
    return []
