"""||f|| against n on MNIST by noise and stop: Belkin, Ma, Mandal 2018, figure 4a."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import norms, paper
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import Data, with_paper


def table(data: Data) -> pd.DataFrame:
    """The norms, and the paper's where the data set and the kernel are the paper's."""
    found = norms.table(data)
    points = paper.points("rkhs_norm")
    ours = set(zip(found["dataset"], found["kernel"], found["bandwidth"], strict=True))
    columns = zip(points["dataset"], points["kernel"], points["bandwidth"], strict=True)
    return with_paper(found, points[[settings in ours for settings in columns]])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """One panel."""
    ax = figure.subplots()
    norms.panel(ax, frame, norms.levels(frame))
    ax.set(xlabel="training points n", ylabel="RKHS norm ||f||")
    norms.key(figure, frame)


FIGURE = Figure(
    title="RKHS norm against n: noise and stopping",
    shows="Norm of the solution against n, by label noise and by when training stopped.",
    expected="more noise gives a larger norm at every n, and the interpolating solution a larger one than "
    "training stopped at zero classification error.",
    needs=norms.NEEDS,
    point=norms.POINT,
    one=("dataset", "kernel", "bandwidth"),
    table=table,
    draw=draw,
    claim=Claim(RUN.rkhs_norm, tolerance=0.1),
    facts=norms.facts,
    extra={"growth": norms.fitted},
)
