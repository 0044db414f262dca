"""Accuracy and RKHS norm against the bandwidth."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_BY = ["dataset", "n", "kernel", "solver", "bandwidth"]


def table(data: Data) -> pd.DataFrame:
    """Test accuracy in percent and ||f|| by kernel and bandwidth."""
    runs = data.runs.assign(test_accuracy_percent=100 * data.runs[RUN.test_accuracy])
    return summary(runs, _BY, ["test_accuracy_percent", RUN.rkhs_norm]).astype({"bandwidth": float})


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Accuracy on the left, norm on the right; colour is kernel, marker is solver."""
    left, right = figure.subplots(1, 2)
    for (kernel, solver), series in frame.groupby(["kernel", "solver"]):
        look = {"color": style.kernel_colour(kernel), **style.solver_style(solver)}
        style.mean_and_range(left, series, "bandwidth", "test_accuracy_percent", **look)
        style.mean_and_range(right, series, "bandwidth", RUN.rkhs_norm, **look)
    style.log_axis(right.yaxis)
    for ax in (left, right):
        style.log_axis(ax.xaxis, frame["bandwidth"])
        ax.set_xlabel("bandwidth s")
    left.set_ylabel("test accuracy (%)")
    style.accuracy_axis(left.yaxis)
    right.set_ylabel("RKHS norm ||f||")
    kernels, solvers = sorted(set(frame["kernel"])), sorted(set(frame["solver"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    style.key(figure, [*entries, *((solver, style.solver_style(solver)) for solver in solvers)])


def facts(frame: pd.DataFrame) -> list[str]:
    """The bandwidth of the highest test accuracy of each kernel, which is no choice of one."""
    said = []
    for (dataset, n, kernel, _), own in frame.groupby(["dataset", "n", "kernel", "solver"]):
        best = own.loc[own["test_accuracy_percent"].idxmax()]
        said.append(
            f"{kernel} on {dataset}, n = {n:,.0f}: highest at s = {best['bandwidth']:.3g} "
            f"({best['test_accuracy_percent']:.2f}%, ||f|| = {best[RUN.rkhs_norm]:.3g})."
        )
    return said


FIGURE = Figure(
    title="Accuracy and norm against the bandwidth",
    shows="How wide each kernel's range of good bandwidths is, and what the norm does over it.",
    needs=("kernel", "dataset", "n", "solver", "bandwidth", RUN.test_accuracy, RUN.rkhs_norm),
    point=tuple(_BY),
    one=("dataset", "n"),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (8.0, 4.2),
)
