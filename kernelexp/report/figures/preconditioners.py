"""Iterations of conjugate residuals by preconditioner."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_RIDGE = "solver.ridge"
_BY = ["dataset", "n", "kernel", "bandwidth", "preconditioner", _RIDGE]
_MARKERS = "osD^v"
# Of the distance between two rows, how much the markers of one take.
_SPREAD = 0.5


def table(data: Data) -> pd.DataFrame:
    """Iterations and the residual they end with, by kernel, preconditioner and ridge."""
    runs = data.runs.assign(
        preconditioner=data.runs["solver.preconditioner"],
        **{_RIDGE: data.runs[_RIDGE].astype(float)},
    )
    return summary(runs, _BY, [RUN.epochs, RUN.relative_residual])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A row for each preconditioner, the most iterations on top; colour is kernel, marker is ridge."""
    ax = figure.subplots()
    order = frame.groupby("preconditioner")[RUN.epochs].max().sort_values()
    rows = {name: place for place, name in enumerate(order.index)}
    ridges = sorted(set(frame[_RIDGE]))
    markers = {ridge: _MARKERS[i % len(_MARKERS)] for i, ridge in enumerate(ridges)}
    series = list(frame.groupby(["kernel", _RIDGE]))
    for i, ((kernel, ridge), own) in enumerate(series):
        below = _SPREAD * (i / max(len(series) - 1, 1) - 0.5)  # equal numbers are side by side
        look: dict[str, Any] = {"color": style.kernel_colour(kernel), "fmt": markers[ridge]}
        for record in own.to_dict("records"):
            mean, place = record[RUN.epochs], rows[record["preconditioner"]] - below
            low, high = record[f"{RUN.epochs}_min"], record[f"{RUN.epochs}_max"]
            ax.errorbar(
                mean, place, xerr=style.bars(mean, low, high), elinewidth=1, alpha=0.8, **look
            )
    ax.set_yticks(list(rows.values()), list(rows))
    style.log_axis(ax.xaxis)
    ax.set(xlabel="iterations", ylim=(-0.5, len(rows) - 0.5))
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [
        (f"ridge {ridge:.2g}", {"marker": markers[ridge], "linestyle": "", "color": style.GREY})
        for ridge in ridges
    ]
    style.key(figure, entries)


def facts(frame: pd.DataFrame) -> list[str]:
    """Iterations of each problem, fewest first, and the largest residual that is left."""
    said = []
    for (dataset, n, kernel, _, ridge), own in frame.groupby(
        [name for name in _BY if name != "preconditioner"], dropna=False
    ):
        numbers = ", ".join(
            f"{r['preconditioner']} {r[RUN.epochs]:.0f}"
            for r in own.sort_values(RUN.epochs).to_dict("records")
        )
        left = own[RUN.relative_residual].max()
        said.append(
            f"{kernel} on {dataset}, n = {n:,.0f}, ridge {ridge:.2g}: {numbers} iterations, to a relative "
            f"residual of {left:.1g}."
        )
    return said


FIGURE = Figure(
    title="Preconditioners of conjugate residuals",
    shows="How many iterations solver=cg takes with each preconditioner; each is a product with K.",
    needs=(
        "kernel",
        "dataset",
        "n",
        "solver.preconditioner",
        "solver.ridge",
        RUN.relative_residual,
    ),
    point=("dataset", "n", "kernel", "bandwidth", "solver.preconditioner", "solver.ridge"),
    one=("dataset", "n"),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (7.0, 3.6),
)
