"""Targets less predictions, on the test points of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import MISTAKES, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data


def table(data: Data) -> pd.DataFrame:
    """Target, prediction and residual of up to 2,000 test points, of each output."""
    if "targets" not in data.file:
        raise ValueError("the run has classes; the figure confusion shows it")
    targets, outputs = (np.atleast_2d(data.file[name]) for name in ("targets", "outputs"))
    n, c = targets.shape
    return pd.DataFrame(
        {
            "output": np.tile(np.arange(c), n),
            "target": targets.ravel(),
            "prediction": outputs.ravel(),
            "residual": (targets - outputs).ravel(),
            "runs": data.shown,
            "source": HERE,
        }
    )


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Residuals against predictions on the left, how they are spread on the right."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for _, own in frame.groupby("output"):
        left.scatter(own["prediction"], own["residual"], s=9, alpha=0.6, linewidths=0)
    right.hist(frame["residual"], bins="auto", orientation="horizontal", color=style.GREY)
    for ax in (left, right):
        ax.axhline(0, color=style.BLACK, linewidth=0.8)
    left.set(xlabel="prediction", ylabel="target - prediction")
    right.set(xlabel="test points")


def facts(frame: pd.DataFrame) -> list[str]:
    """Mean, spread and the largest, and whether errors grow with predictions."""
    r = frame["residual"]
    said = f"Residuals: mean {r.mean():.3g}, standard deviation {r.std(ddof=0):.3g}, largest {r.abs().max():.3g}."
    if len(frame) < 3 or frame["prediction"].nunique() < 2 or r.nunique() < 2:
        return [said]
    grow = frame["prediction"].rank().corr(r.abs().rank())
    return [said, f"Rank correlation of their size with the prediction: {grow:.2f}."]


FIGURE = Figure(
    title="Residuals",
    shows="Targets less predictions on up to 2,000 test points, of the run that is best on held-out points or, without any, of the newest.",
    needs=("kernel", "dataset", RUN.test_r2),
    point=("run",),
    table=table,
    draw=draw,
    facts=facts,
    file=MISTAKES,
    general=True,
    size=lambda frame: (7.2, 4.0),
)
