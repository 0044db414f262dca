"""Test error against n, beside the one that theory predicts from eigenvalues and coefficients."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_RIDGE = "solver.ridge"
_BY = ["dataset", "kernel", "bandwidth", _RIDGE, "n"]


def table(data: Data) -> pd.DataFrame:
    """Test MSE and the predicted one by kernel, ridge and n."""
    found = summary(data.runs, _BY, [RUN.test_mse, RUN.predicted_test_mse])
    return found.astype({"n": float, _RIDGE: float})


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each ridge; markers: measured, lines: predicted; colour is kernel."""
    ridges = sorted(set(frame[_RIDGE]))
    panels = figure.subplots(1, len(ridges), squeeze=False, sharey=True)[0]
    for ax, ridge in zip(panels, ridges, strict=True):
        own = frame[frame[_RIDGE] == ridge]
        for (kernel, _), series in own.groupby(["kernel", "bandwidth"], dropna=False):
            colour, series = style.kernel_colour(kernel), series.sort_values("n")
            look = {"color": colour, "marker": "o", "linestyle": ""}
            style.mean_and_range(ax, series, "n", RUN.test_mse, **look)
            ax.plot(series["n"], series[RUN.predicted_test_mse], color=colour)
        style.log_axis(ax.xaxis, frame["n"])
        ax.set(title=_named(ridge), xlabel="training points n")
    style.log_axis(panels[0].yaxis)
    panels[0].set_ylabel("test mean square error")
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [("measured", {"marker": "o", "linestyle": ""}), ("predicted", {"linestyle": "-"})]
    style.key(figure, entries)


def _named(ridge: float) -> str:
    return f"ridge {ridge:g}" if ridge else "interpolated"


def facts(frame: pd.DataFrame) -> list[str]:
    """How far the prediction is off, for each kernel and ridge."""
    off = frame.assign(off=100 * (frame[RUN.predicted_test_mse] / frame[RUN.test_mse] - 1))
    return [
        f"{kernel}, {_named(ridge)}: predicted {own['off'].min():+.1f}% to {own['off'].max():+.1f}% beside measured, "
        f"{own['off'].abs().mean():.1f}% on average."
        for (kernel, ridge), own in off.groupby(["kernel", _RIDGE])
    ]


FIGURE = Figure(
    title="Learning curves, measured and predicted",
    shows="Mean square error on test points against n, and the error that the eigenvalues of the kernel and the coefficients of the targets, "
    "both estimated from the test points, predict.",
    expected="on images the prediction meets the measured error within a few percent, with and without a ridge.",
    needs=("kernel", "dataset", "n", _RIDGE, RUN.test_mse, RUN.predicted_test_mse),
    point=("dataset", "n", "kernel", "bandwidth", "solver", _RIDGE),
    one=("dataset", "bandwidth", "solver"),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (2.2 + 3.1 * frame[_RIDGE].nunique(), 4.2),
)
