"""Build a report: read runs, make tables and pictures, write the page, and say what is missing."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kernelexp.report import captions, safe
from kernelexp.report.comparison import comparison
from kernelexp.report.drawing import FORMATS, draw
from kernelexp.report.figures import Figure, discover
from kernelexp.report.frames import Data, counted
from kernelexp.report.page import Picture, write
from kernelexp.report.store import Store
from kernelexp.report.unmatched import unmatched


@dataclass(frozen=True)
class Options:
    """What to report on, and where to.

    Attributes:
        experiments: names; none: all that have runs.
        store: an MLflow tracking URI.
        parent: the beginning of a sweep's run id: its jobs alone.
        query: an MLflow filter.
        figures: draw these from every experiment; none: each from the experiment of its name.
        out: folder.
        formats: of the pictures, from ``drawing.FORMATS``.
        log: whether pictures are also kept with the sweeps whose runs they show.
        dpi: of png pictures.
    """

    experiments: Sequence[str] = ()
    store: str = "sqlite:///mlflow.db"
    parent: str | None = None
    query: str = ""
    figures: Sequence[str] = ()
    out: Path = Path("reports")
    formats: Sequence[str] = ("png",)
    log: bool = True
    dpi: int = 160


@dataclass
class Report:
    """What was built.

    Attributes:
        pictures: the figures of the page.
        notes: what is missing, a line each.
        runs: how many runs were read.
    """

    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    runs: int = 0


def build(options: Options) -> Report:
    """Write pictures, tables and ``index.html``.

    Raises:
        ValueError: if the store does not open, an option is wrong, or there is nothing to report on.
    """
    known = discover()
    for option, given, allowed in (
        ("figure", options.figures, list(known)),
        ("format", options.formats, list(FORMATS)),
    ):
        for name in given:
            if name not in allowed:
                raise ValueError(f"--{option} {name}: must be one of {', '.join(allowed)}")
    _check_folder(options.out)
    store, report = Store(options.store), Report()
    names, parent = list(options.experiments), None
    if options.parent is not None:
        parent, experiment = store.parent(options.parent)
        names = names or [experiment]
    asked = bool(names)
    names = names or sorted(store.experiments)
    frames = _read(store, options, names, parent, asked, report)
    if not frames:
        if not asked:
            report.notes.append(unmatched(store, [], options.query, parent))
        raise ValueError("; ".join(report.notes))
    with _writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    for experiment, runs in frames.items():
        chosen = options.figures or [
            name for name, figure in known.items() if experiment in (figure.experiment, name)
        ]
        if not chosen and options.experiments:
            report.notes.append(
                f"{experiment}: no figure has this name, so its runs stand in the table alone; "
                "--figure NAME draws one from them"
            )
        for name in chosen:
            own = experiment in (name, known[name].experiment)
            stem = name if own else f"{safe.file_name(experiment)}-{name}"
            title = name if own else f"{experiment}-{name}"
            _add(report, store, options, stem, title, known[name], runs)
    every = pd.concat(frames.values(), ignore_index=True)
    report.runs = len(every)
    table = comparison(every)
    page = options.out / "index.html"
    with _writing(options.out):
        (options.out / "comparison.csv").write_text(safe.csv(table), encoding="utf-8")
        write(page, options.store, report.pictures, report.notes, every, table)
    return report


def _check_folder(out: Path) -> None:
    """Refuse, before anything is read, an ``--out`` that can not be made or written to."""
    with _writing(out):
        place = next(place for place in (out, *out.parents) if place.exists())
        if not place.is_dir():
            raise ValueError(f"--out {out}: must be a folder; {place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ValueError(f"--out {out}: must be a folder that can be written; {place} can not")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or out}"
        raise ValueError(f"--out {out}: must be a folder that can be written ({reason})") from error


def _read(
    store: Store,
    options: Options,
    names: list[str],
    parent: str | None,
    asked: bool,
    report: Report,
) -> dict[str, pd.DataFrame]:
    """The runs of each experiment that has any; what has none is noted if it was asked for by name."""
    frames = {}
    for name in dict.fromkeys(names):
        try:
            runs = store.runs(name, options.query, parent)
        except ValueError as error:
            if "--filter" in str(error):
                raise
            report.notes.append(str(error))
            continue
        if runs.unfinished:
            report.notes.append(
                f"{name}: {counted(runs.unfinished, 'run')} failed or not finished; left out"
            )
        if len(runs.frame):
            frames[name] = runs.frame
            if warning := captions.unsolved(runs.frame):
                report.notes.append(f"{name}: {warning}")
        elif asked:
            report.notes.append(unmatched(store, [name], options.query, parent))
    return frames


def _add(
    report: Report,
    store: Store,
    options: Options,
    stem: str,
    name: str,
    figure: Figure,
    runs: pd.DataFrame,
) -> None:
    """One figure; whatever is wrong with it, the others are still built."""
    notes: list[str] = []
    try:
        report.pictures.append(_make(store, options, stem, figure, runs, notes))
    except ValueError as error:
        notes.append(f"not drawn: {error}")
    except Exception as error:  # a figure is anybody's code
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        notes.append(f"not drawn: {type(error).__name__}: {error} ({place})")
    report.notes += [f"{name}: {' '.join(note.split())}" for note in notes]


def _make(
    store: Store, options: Options, stem: str, figure: Figure, runs: pd.DataFrame, notes: list[str]
) -> Picture:
    missing = [column for column in figure.needs if column not in runs or runs[column].isna().all()]
    if missing:
        raise ValueError(f"no run has {', '.join(missing)}")
    data = Data(runs, notes=notes)
    for column in figure.needs:
        data.keep(data.runs[column].notna(), f"without {column}")
        data.keep(~data.runs[column].isin([np.inf, -np.inf]), f"with infinite {column}")
    for column in ("scale", *figure.one):
        _keep_newest(data, column)
    shared = captions.sharing(data.runs, figure.point)
    if shared:
        notes.append(shared)
    if figure.history:
        data.history = store.history(data.runs["run"], figure.history)
    table = figure.table(data)
    used = data.runs
    extra = {f"{stem}_{end}.csv": make(table) for end, make in figure.extra.items()}
    tables = {f"{stem}.csv": safe.csv(table), **{n: safe.csv(f) for n, f in extra.items()}}
    for name, text in tables.items():
        (options.out / name).write_text(text, encoding="utf-8")
    files = [options.out / f"{stem}.{kind}" for kind in options.formats]
    drawn = draw(figure, table, captions.below(table, used), files, options.dpi, notes)
    if options.log:
        _log(store, used, files, notes)
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
        extra=[captions.rows(frame) for frame in extra.values() if len(frame)],
    )


def _keep_newest(data: Data, column: str) -> None:
    """Where runs differ in what a picture shows one value of, keep those like the newest run."""
    values = data.runs.get(column)
    if values is None or values.nunique(dropna=False) < 2:
        return
    newest = values.iloc[0]
    same = values.isna() if pd.isna(newest) else values == newest
    shown = "none" if pd.isna(newest) else captions.listed([newest])
    found = captions.listed(values.fillna("none"))
    data.keep(
        same, f"of another {column} than the newest ({shown} of {found}; --filter takes others)"
    )


def _log(store: Store, runs: pd.DataFrame, files: list[Path], notes: list[str]) -> None:
    for parent in runs["parent"].dropna().unique():
        try:
            for path in files:
                store.log(parent, path)
        except Exception as error:  # a server may forbid it; the report is built all the same
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(
                f"not logged to sweep {captions.short_id(parent)} ({reason}); --no-log leaves it out"
            )
            return
