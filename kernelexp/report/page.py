"""The page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

import kernelexp
from kernelexp.report import captions, paper_claims, safe
from kernelexp.report.address import shown_store
from kernelexp.report.comparison import readable
from kernelexp.report.drawing import Drawn
from kernelexp.report.frames import counted
from kernelexp.report.side_by_side import SideBySide


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        name: of its files.
        title: heading.
        shows: what is drawn.
        expected: what papers or theory say; may be empty.
        drawn: its pictures.
        facts: what came out, a sentence each; empty ones are left out.
        settings: of its runs.
        provenance: commit, device and days.
        runs: short ids.
        sweeps: short ids of their parents.
        tables: file names and contents of the tables behind it.
        extra: tables of the caption, header and rows.
        claims: see ``paper_claims.claims``.
    """

    name: str
    title: str
    shows: str
    expected: str
    drawn: Drawn
    facts: Sequence[str]
    settings: str
    provenance: str
    runs: Sequence[str]
    sweeps: Sequence[str]
    tables: Sequence[tuple[str, str]]
    extra: Sequence[tuple[list[str], list[list[str]]]]
    claims: pd.DataFrame


def write(
    path: Path,
    store: str,
    pictures: Sequence[Picture],
    notes: Sequence[str],
    runs: pd.DataFrame,
    table: pd.DataFrame,
    claimed: pd.DataFrame,
    compared: SideBySide | None = None,
) -> None:
    """Write the page for pictures, notes, all runs and their comparison table, below what is compared.

    ``claimed``: the claims of all pictures.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["csv"] = _data_uri
    source = (resources.files("kernelexp.report") / "page.html").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        version=kernelexp.__version__,
        built=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        store=shown_store(store),
        pictures=pictures,
        notes=notes,
        n_runs=counted(len(runs), "run"),
        days=captions.days(runs),
        devices=captions.devices(runs),
        commits=captions.commits(runs),
        text=("kernel", "dataset", "solver", "also", "warning"),
        comparisons=[(name, *readable(own)) for name, own in table.groupby("experiment")],
        compared=compared and compared.title,
        tables=[(title, *captions.rows(one)) for title, one in compared.tables if len(one)]
        if compared
        else [],
        comparison_csv=safe.csv(table),
        verdict=paper_claims.verdict(claimed) if len(claimed) else "",
        claims=paper_claims.readable(claimed) if len(claimed) else ([], []),
        claims_csv=safe.csv(claimed),
    )
    path.write_text(text, encoding="utf-8")


def _data_uri(text: str) -> str:
    return "data:text/csv;base64," + base64.b64encode(text.encode()).decode()
