"""What papers claim beside what came out here: the points of a figure's table that both have."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kernelexp.report.figures import Figure
from kernelexp.report.frames import EARLY, counted, here, paper

# Of a paper's points: where they are from, not what they are of.
_ORIGIN = ["source", "read"]
# A deviation that is the tolerance is within it, whatever its last digit.
_ROUNDING = 1e-9


def claims(figure: Figure, table: pd.DataFrame) -> pd.DataFrame:
    """A row for each point of a paper: what it is of, its value, ours, and whether they agree.

    Columns: ``figure``; ``claim``, the settings of the point; ``paper``; ``here``, the mean over seeds, empty where nothing
    was run at these settings; ``sd`` over seeds; ``seeds``; ``deviation``, here / paper - 1, or here - paper where
    ``absolute``; ``tolerance``, the largest that counts as agreement; ``within``; ``source`` and ``read``, how the paper's
    value was read; ``runs``.
    """
    theirs = paper(table).reset_index(drop=True)
    if figure.claim is None or theirs.empty:
        return pd.DataFrame()
    value, tolerance = figure.claim.value, figure.claim.tolerance
    ours = [c for c in table if c.startswith(f"{value}_")] + ["seeds", "runs"]
    columns = [c for c in theirs if c not in [value, *_ORIGIN, *ours]]
    keys = [c for c in columns if theirs[c].notna().any()]
    own = here(table)
    # Runs that ended before they got there are no witnesses.
    if "stop" in own:
        own = own[own["stop"] != EARLY]
    if "reached" in own:
        own = own[own["reached"] == 1]
    # What tells runs apart that the paper does not speak of.
    also = [c for c in own.select_dtypes(["object", "string"]) if c not in [*keys, *_ORIGIN, *ours]]
    own = own[[*keys, *also, value, f"{value}_sd", "seeds", "runs"]]
    both = theirs[[*keys, value, *_ORIGIN]].merge(own, "left", keys, suffixes=("_paper", ""))
    deviation = both[value] - both[f"{value}_paper"]
    if not figure.claim.absolute:
        deviation /= both[f"{value}_paper"]
    most = tolerance * (1 + _ROUNDING)
    return pd.DataFrame(
        {
            "figure": figure.title,
            "claim": [
                _settings([*keys, *also], point)
                for point in both[[*keys, *also]].itertuples(index=False)
            ],
            "paper": both[f"{value}_paper"],
            "here": both[value],
            "sd": both[f"{value}_sd"],
            "seeds": both["seeds"],
            "deviation": deviation,
            "absolute": figure.claim.absolute,
            "tolerance": tolerance,
            "within": ["" if pd.isna(d) else "yes" if abs(d) <= most else "no" for d in deviation],
            **{name: both[name] for name in _ORIGIN},
            "runs": both["runs"],
        }
    )


def verdict(table: pd.DataFrame) -> str:
    """How many of the claims hold, in a sentence."""
    tried = table["within"].ne("")
    held = int(table["within"].eq("yes").sum())
    return (
        f"{held} of {counted(int(tried.sum()), 'value')} within the tolerance; "
        f"{int((~tried).sum())} of the papers' points have no run at their settings."
    )


def readable(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the page's table: those that were run, the worst first."""
    tried = table[table["within"] != ""]
    beyond = tried["deviation"].abs() / tried["tolerance"]
    tried = tried.reindex(beyond.sort_values(ascending=False, kind="stable").index)
    header = ["figure", "claim", "paper", "here", "sd", "seeds", "deviation", "tolerance", "within"]
    rows = [
        [
            row.figure,
            row.claim,
            f"{row.paper:.4g}",
            f"{row.here:.4g}",
            "" if pd.isna(row.sd) else f"{row.sd:.2g}",
            f"{row.seeds:.0f}",
            f"{row.deviation:+.2f}" if row.absolute else f"{100 * row.deviation:+.1f}%",
            f"{row.tolerance:.3g}" if row.absolute else f"{100 * row.tolerance:.3g}%",
            row.within,
        ]
        for row in tried.itertuples(index=False)
    ]
    return header, rows


def _settings(keys: Sequence[str], point: Sequence[object]) -> str:
    """``mnist, gaussian, noise 0.1, n 20,000``."""
    said = []
    for key, value in zip(keys, point, strict=True):
        if isinstance(value, str):
            said.append(value)
        elif not pd.isna(value):
            said.append(f"{key} {value:,.10g}")
    return ", ".join(said)
