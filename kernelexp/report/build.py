"""Build a report: read runs, make tables and pictures, write the page, and say what is missing."""

from __future__ import annotations

import base64
import io
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kernelexp.report import captions, style
from kernelexp.report.comparison import comparison
from kernelexp.report.figures import Figure, discover
from kernelexp.report.frames import Data, counted
from kernelexp.report.page import Picture, write
from kernelexp.report.store import Store

FORMATS = ("png", "svg", "pdf")
_MIME = {"png": "image/png", "svg": "image/svg+xml"}
# Of a picture file; None leaves the time out, so that the same runs give the same file.
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}


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
        formats: of the pictures, from ``FORMATS``.
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
    for name in options.figures:
        if name not in known:
            raise ValueError(f"--figure {name}: must be one of {', '.join(known)}")
    store, report = Store(options.store), Report()
    names, parent = list(options.experiments), None
    if options.parent:
        parent, experiment = store.parent(options.parent)
        names = names or [experiment]
    frames = _read(store, options, names or sorted(store.experiments), parent, bool(names), report)
    if not frames:
        raise ValueError("; ".join(report.notes) or f"--store {options.store}: no finished runs")
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
            stem = name if experiment in (name, known[name].experiment) else f"{experiment}-{name}"
            _add(report, store, options, stem, known[name], runs)
    every = pd.concat(frames.values(), ignore_index=True)
    report.runs = len(every)
    table = comparison(every)
    table.to_csv(options.out / "comparison.csv", index=False)
    write(options.out / "index.html", options.store, report.pictures, report.notes, every, table)
    return report


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
        elif asked:
            report.notes.append(f"{name}: no finished runs that match")
    return frames


def _add(
    report: Report, store: Store, options: Options, stem: str, figure: Figure, runs: pd.DataFrame
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
    report.notes += [f"{stem}: {' '.join(note.split())}" for note in notes]


def _make(
    store: Store, options: Options, stem: str, figure: Figure, runs: pd.DataFrame, notes: list[str]
) -> Picture:
    missing = [column for column in figure.needs if column not in runs or runs[column].isna().all()]
    if missing:
        raise ValueError(f"no run has {', '.join(missing)}")
    data = Data(runs, notes=notes)
    for column in figure.needs:
        data.keep(data.runs[column].notna(), f"without {column}")
    for column in ("scale", *figure.one):
        _keep_newest(data, column)
    shared = captions.sharing(data.runs, figure.point)
    if shared:
        notes.append(shared)
    if figure.history:
        data.history = store.history(data.runs["run"], figure.history)
    table = figure.table(data)
    used = data.runs
    table.to_csv(options.out / f"{stem}.csv", index=False)
    extra = {f"{stem}_{end}.csv": make(table) for end, make in figure.extra.items()}
    for name, frame in extra.items():
        frame.to_csv(options.out / name, index=False)
    files, embedded = _draw(options, stem, figure, table, captions.below(table, used))
    if options.log:
        _log(store, used, files, notes)
    return Picture(
        name=stem,
        title=figure.title,
        shows=figure.shows,
        embedded=embedded,
        inches=figure.size(table)[0],
        facts=[*figure.facts(table), captions.spread(table)],
        settings=captions.settings(used),
        provenance=f"Commit {captions.commits(used)}; {captions.devices(used)}; {captions.days(used)}.",
        runs=[captions.short_id(run) for run in used["run"]],
        sweeps=[captions.short_id(run) for run in used["parent"].dropna().unique()],
        tables=[(name, (options.out / name).read_text()) for name in (f"{stem}.csv", *extra)],
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


def _draw(
    options: Options, stem: str, figure: Figure, table: pd.DataFrame, below: str
) -> tuple[list[Path], str]:
    """The picture files, and the one for the page as a data URI."""
    with mpl.rc_context(style.RC):
        canvas = Canvas(figure.size(table), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
        FigureCanvasAgg(canvas)
        # Of its own, so that the line below does not run into the figure's legend.
        inner = canvas.add_subfigure(canvas.add_gridspec()[0])
        figure.draw(table, inner)
        inner.suptitle(figure.title)
        canvas.supxlabel(below, fontsize=6.5, color=style.GREY)
        files = [options.out / f"{stem}.{kind}" for kind in options.formats]
        for kind, path in zip(options.formats, files, strict=True):
            canvas.savefig(path, dpi=options.dpi, metadata=_METADATA[kind])
        shown = next((kind for kind in options.formats if kind in _MIME), "png")
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=shown, dpi=options.dpi, metadata=_METADATA[shown])
    picture = base64.b64encode(buffer.getvalue()).decode()
    return files, f"data:{_MIME[shown]};base64,{picture}"


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
