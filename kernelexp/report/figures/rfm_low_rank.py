"""Test error of a recursive feature machine by round, beside its paper's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import paper as papers
from kernelexp.report import style
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import Data, here, of_all_seeds, paper, summary, with_paper

_BY = ["dataset", "kernel", "bandwidth", "n", "metric", "epoch"]
_MARKERS = {"full M": "o", "diagonal M": "D"}


def table(data: Data) -> pd.DataFrame:
    """Test MSE by n, kind of M and round."""
    rows = data.epochs()
    diagonal = rows["solver.diagonal"].astype(str).str.lower() == "true"
    rows = rows.assign(metric=np.where(diagonal, "diagonal M", "full M"))
    rows = of_all_seeds(rows.dropna(subset=[EPOCH.epoch_test_mse]), _BY[:-1])
    found = summary(rows, _BY, [EPOCH.epoch_test_mse])
    points = papers.points("rfm_low_rank")
    same = points.merge(found[_BY[:-2]].drop_duplicates())  # of its task, kernel and size
    return with_paper(found, same)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A curve for each n and kind of M; hollow: the paper's."""
    ax = figure.subplots()
    sizes = sorted(set(frame["n"]))
    colours = style.noise_colours(sizes)
    for (n, metric), series in here(frame).groupby(["n", "metric"]):
        look = {"color": colours[n], "marker": _MARKERS[metric], "label": f"n = {n:,.0f}, {metric}"}
        style.mean_and_band(ax, series, "epoch", EPOCH.epoch_test_mse, **look)
    for n, series in paper(frame).groupby("n"):
        style.hollow(
            ax, series["epoch"], series[EPOCH.epoch_test_mse], color=colours[n], marker="o"
        )
    style.log_axis(ax.yaxis)
    ax.set(xlabel="round", ylabel="test mean square error")
    entries = [(f"n = {n:,.0f}", {"color": colours[n]}) for n in sizes]
    entries += [
        (m, {"marker": _MARKERS[m], "linestyle": "", "color": style.GREY})
        for m in sorted(set(here(frame)["metric"]))
    ]
    if len(paper(frame)):
        entries.append(style.paper_entry("paper"))
    style.key(figure, entries, columns=3)


def facts(frame: pd.DataFrame) -> list[str]:
    """First and last error of each curve, and the paper's."""
    said = []
    for (n, metric), own in here(frame).groupby(["n", "metric"]):
        values = own.sort_values("epoch")[EPOCH.epoch_test_mse]
        said.append(
            f"n = {n:,.0f}, {metric}: {values.iloc[0]:.5f} in the first round, {values.iloc[-1]:.5f} in the last."
        )
    theirs = paper(frame).sort_values("epoch")[EPOCH.epoch_test_mse]
    if len(theirs):
        said.append(f"Paper, n = 4,000: {theirs.iloc[0]:.5f} and {theirs.iloc[-1]:.5f}.")
    return said


FIGURE = Figure(
    title="Recursive feature machine: test error by round",
    shows="Mean square error on test points after each round; M is 1 in the first round.",
    expected="with y = x0 x1 [x5 > 0] of twenty coordinates the error falls by a factor of six within six rounds (n = 4,000).",
    needs=("kernel", "n", "solver", "solver.diagonal", RUN.test_mse),
    point=("dataset", "n", "kernel", "bandwidth", "solver", "solver.diagonal"),
    one=("dataset", "kernel", "bandwidth", "solver"),
    history=(EPOCH.epoch_test_mse,),
    table=table,
    draw=draw,
    claim=Claim(EPOCH.epoch_test_mse, tolerance=0.15),
    facts=facts,
)
