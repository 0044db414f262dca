"""``python -m kernelexp.report``: the page, the pictures and the tables from the tracking store."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kernelexp.options import Parser


def _given(text: str) -> str:
    """What was typed; an empty variable of a shell is a mistake, not the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r}: must not be empty; leave it out for the default"
        )
    return text


def _folder(text: str) -> Path:
    return Path(_given(text))


def _arguments() -> argparse.Namespace:
    parser = Parser(
        prog="python -m kernelexp.report",
        description="Figures and tables from the tracking store: a page, pictures and CSV files.",
    )
    add = parser.add_argument
    add("experiments", nargs="*", type=_given, metavar="EXPERIMENT",
        help="names (default: all that have runs)")  # fmt: skip
    add("--store", type=_given, metavar="URI",
        help="default: $MLFLOW_TRACKING_URI or sqlite:///mlflow.db")  # fmt: skip
    add("--parent", type=_given, metavar="RUN",
        help="only the jobs of this sweep: its run id, or the start of it")  # fmt: skip
    add("--filter", type=_given, metavar="QUERY",
        help="MLflow filter, as \"params.noise = '0.1'\"")  # fmt: skip
    add("--compare", nargs=2, type=_given, metavar=("A", "B"),
        help="two runs (ids, their starts, names) or two commits side by side, into compare.html")  # fmt: skip
    add("--figure", action="append", default=[], type=_given, metavar="NAME",
        help="draw this figure from the experiments whatever their names; may be repeated")  # fmt: skip
    add("--out", type=_folder, default=Path("reports"), metavar="FOLDER", help="default: reports")
    add("--format", action="append", choices=("png", "svg", "pdf"),
        help="of the pictures (default: png); may be repeated")  # fmt: skip
    add("--no-log", action="store_true", help="do not keep the pictures with the sweeps' runs")
    return parser.parse_intermixed_args()


def main() -> int:
    """Build the report; 0 if anything was built, 2 if nothing could be."""
    given = _arguments()
    # After the options are parsed: importing MLflow and seaborn takes seconds.
    from kernelexp.report.build import build
    from kernelexp.report.frames import counted
    from kernelexp.report.options import Options

    options = Options(
        experiments=given.experiments,
        store=given.store or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        parent=given.parent,
        query=given.filter or "",
        compare=given.compare and tuple(given.compare),
        figures=given.figure,
        out=given.out,
        formats=tuple(dict.fromkeys(given.format or ["png"])),
        log=not given.no_log,
    )
    try:
        report = build(options)
    except (ValueError, OSError) as error:
        print(f"kernelexp.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for note in report.notes:
        print(f"kernelexp.report: {note}", file=sys.stderr)
    print(report.text, end="")
    built = f"{counted(len(report.pictures), 'figure')}, {counted(report.runs, 'run')}"
    print(f"{report.page}: {built}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
