"""What the three figures of the RKHS norm share: ||f|| against n by noise and stop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import growth, style
from kernelexp.report.frames import (
    EARLY,
    HERE,
    INTERPOLATED,
    OVERFITTED,
    Data,
    counted,
    here,
    paper,
    summary,
    with_stop,
)

NEEDS = ("kernel", "dataset", "n", "noise", "solver", RUN.rkhs_norm)
SERIES = ("dataset", "kernel", "bandwidth", "noise", "stop")
POINT = ("dataset", "kernel", "bandwidth", "n", "noise", "solver")
_FIXED = ["dataset", "kernel", "bandwidth"]


def table(data: Data) -> pd.DataFrame:
    """||f|| and its relative error by ``SERIES`` and n."""
    uniform = (data.runs["noise"] == 0) | (data.runs["noise_kind"] == "uniform")
    data.keep(uniform, "with other than uniform label noise")
    with_stop(data)
    if RUN.rkhs_norm_error not in data.runs:
        data.runs = data.runs.assign(**{RUN.rkhs_norm_error: float("nan")})
    by = [*SERIES, "n", "d"]
    found = summary(data.runs, by, [RUN.rkhs_norm, RUN.rkhs_norm_error])
    spread = [f"{RUN.rkhs_norm_error}_sd", f"{RUN.rkhs_norm_error}_min"]
    return found.drop(columns=spread).astype({"n": float})


def fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """The fits of ``growth.fits`` to every series of the table that is of one kind of solution."""
    known = frame[frame["stop"] != EARLY]
    return growth.fits(known, SERIES, dict(zip(frame["dataset"], frame["d"], strict=True)))


def panel(ax: Axes, frame: pd.DataFrame, levels: Sequence[float]) -> None:
    """||f|| against n on logarithmic axes: colour is noise, line is stop, hollow is the paper."""
    colours = style.noise_colours(levels)
    for (noise, stop), series in here(frame).groupby(["noise", "stop"]):
        look = style.STOP_STYLES[stop]
        style.mean_and_range(ax, series, "n", RUN.rkhs_norm, color=colours[noise], **look)
    for (noise, stop), series in paper(frame).groupby(["noise", "stop"]):
        series = series.sort_values("n")
        marker = style.STOP_STYLES[stop]["marker"]
        style.hollow(ax, series["n"], series[RUN.rkhs_norm], color=colours[noise], marker=marker)
    style.log_axis(ax.xaxis, frame["n"])
    style.log_axis(ax.yaxis)


def levels(frame: pd.DataFrame) -> list[float]:
    """The noise levels of a table."""
    return sorted(set(frame["noise"]))


def key(figure: FigureBase, frame: pd.DataFrame) -> None:
    """The legend of ``panel``."""
    colours = style.noise_colours(levels(frame))
    entries = [style.colour_entry(f"{100 * noise:.3g}% noise", c) for noise, c in colours.items()]
    stops = [stop for stop in (OVERFITTED, INTERPOLATED, EARLY) if stop in set(frame["stop"])]
    entries += [(stop, style.STOP_STYLES[stop]) for stop in stops]
    if len(paper(frame)):
        entries.append(style.paper_entry(style.sources(paper(frame)["source"])))
    style.key(figure, entries, columns=3 if len(entries) in (3, 5, 6) else 4)


def facts(frame: pd.DataFrame) -> list[str]:
    """The two orderings of the paper, growth, the distance from its points, and the verdict on laws."""
    fits, own = fitted(frame), here(frame)
    known = own[own["stop"] != EARLY]
    said = [
        _ordering(known, "noise", ["stop"], "The norm is larger with more noise"),
        _ordering(
            known, "stop", ["noise"], "The interpolating norm is larger than the overfitted one"
        ),
        _distance(frame),
    ]
    if len(fits):
        ours = fits[fits["source"] == HERE]
        said += [growth.exponents(ours), growth.verdict(ours)]
    return [text for text in [*said, *_errors(own)] if text]


def _errors(own: pd.DataFrame) -> list[str]:
    """How far the norms may be off, where that is worth a word, and where it is not known."""
    worst = own[f"{RUN.rkhs_norm_error}_max"]
    unknown, known = int(np.isinf(worst).sum()), worst[np.isfinite(worst)].max()
    said = []
    if known > 1e-3:
        said.append(
            f"Relative error of a norm, as the runs give it: at most {known:.2g}. The norm of a solve "
            "whose system is ill-conditioned is a lower bound."
        )
    if unknown:
        said.append(f"For {counted(unknown, 'point')} it is not known how far the norm is off.")
    return said


def _ordering(own: pd.DataFrame, column: str, rest: list[str], claim: str) -> str:
    """How often the norm rises with ``column`` (interpolated counts above overfitted) at equal n."""
    held = compared = 0
    for _, group in own.groupby([*_FIXED, *rest, "n"], dropna=False):
        ascending = column != "stop"
        values = group.sort_values(column, ascending=ascending)[RUN.rkhs_norm].to_list()
        held += sum(b > a for a, b in pairwise(values))
        compared += max(0, len(values) - 1)
    return f"{claim} in {held} of {compared} comparisons at equal n." if compared else ""


def _distance(frame: pd.DataFrame) -> str:
    """Our norm over the paper's where both have one."""
    keys = ["dataset", "kernel", "noise", "stop", "n"]
    both = here(frame).merge(paper(frame)[[*keys, RUN.rkhs_norm]], on=keys, suffixes=("", "_paper"))
    if both.empty:
        return ""
    ratio = both[RUN.rkhs_norm] / both[f"{RUN.rkhs_norm}_paper"]
    return (
        f"Norm here over the paper's at the same n, noise and stop: median {ratio.median():.2f}, "
        f"{ratio.min():.2f} to {ratio.max():.2f} over {counted(len(ratio), 'point')}."
    )
