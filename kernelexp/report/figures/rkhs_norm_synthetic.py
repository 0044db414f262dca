"""||f|| against n on the two synthetic sets: Belkin, Ma, Mandal 2018, figures 2 and 3."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import norms, paper
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import Data, with_paper

_SETS = {"synthetic1": "set 1, separable", "synthetic2": "set 2, Bayes error 15.9%"}


def table(data: Data) -> pd.DataFrame:
    """The norms, and the paper's for the sets that were run."""
    found = norms.table(data)
    points = paper.points("rkhs_norm_synthetic")
    return with_paper(found, points[points["dataset"].isin(set(found["dataset"]))])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each set."""
    sets = sorted(set(frame["dataset"]))
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for ax, name in zip(panels, sets, strict=True):
        norms.panel(ax, frame[frame["dataset"] == name], norms.levels(frame))
        ax.set(xlabel="training points n", title=_SETS.get(name, name))
    panels[0].set_ylabel("RKHS norm ||f||")
    norms.key(figure, frame)


FIGURE = Figure(
    title="RKHS norm against n: two synthetic sets in 50 dimensions",
    shows="Norm of the solution against n, by label noise and by when training stopped. The paper gives no "
    "bandwidth.",
    expected="as for MNIST, the norm grows with n, faster with noise; on the overlapping set it grows "
    "without any, because the classes themselves are noise.",
    needs=norms.NEEDS,
    point=norms.POINT,
    one=("kernel", "bandwidth"),
    table=table,
    draw=draw,
    claim=Claim(RUN.rkhs_norm, tolerance=0.15),
    facts=norms.facts,
    extra={"growth": norms.fitted},
    size=lambda frame: (3.2 + 3.4 * frame["dataset"].nunique(), 4.6),
)
