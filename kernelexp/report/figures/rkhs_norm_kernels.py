"""||f|| against n for other kernels and data sets."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.report import norms, style
from kernelexp.report.figures import Figure


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A row of panels for each data set, a column for each kernel, named in the kernel's colour."""
    kernels, sets = sorted(set(frame["kernel"])), sorted(set(frame["dataset"]))
    panels = figure.subplots(len(sets), len(kernels), squeeze=False, sharex=True, sharey="row")
    for row, dataset in zip(panels, sets, strict=True):
        for ax, kernel in zip(row, kernels, strict=True):
            own = frame[(frame["dataset"] == dataset) & (frame["kernel"] == kernel)]
            if own.empty:
                ax.text(0.5, 0.5, "no runs", ha="center", transform=ax.transAxes, color=style.GREY)
            else:
                norms.panel(ax, own, norms.levels(frame))
        row[0].set_ylabel(f"{dataset}\nRKHS norm ||f||")
    for ax, kernel in zip(panels[0], kernels, strict=True):
        ax.set_title(kernel, color=style.kernel_colour(kernel), weight="bold")
    for ax in panels[-1]:
        ax.set_xlabel("training points n")
    norms.key(figure, frame)


FIGURE = Figure(
    title="RKHS norm against n: kernels and data sets",
    shows="Whether the norm grows with n and with noise for other kernels and data, as the paper finds for "
    "the Gaussian kernel on MNIST.",
    needs=norms.NEEDS,
    point=norms.POINT,
    one=("bandwidth",),
    table=norms.table,
    draw=draw,
    facts=norms.facts,
    extra={"growth": norms.fitted},
    size=lambda f: (1.6 + 2.4 * f["kernel"].nunique(), 1.6 + 2.2 * f["dataset"].nunique()),
)
