"""The adapted kernel goes to the solution of the original one: distance to the exact solve by epoch."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, of_all_seeds, summary

_BY = ["dataset", "n", "kernel", "bandwidth", "solver", "epoch"]


def table(data: Data) -> pd.DataFrame:
    """Distance and test accuracy by kernel and epoch, with the accuracy of the exact solution."""
    epochs = data.epochs().dropna(subset=[EPOCH.epoch_prediction_error])
    if epochs.empty:
        raise ValueError(f"no run has {EPOCH.epoch_prediction_error}; run with compare=[exact]")
    epochs = of_all_seeds(epochs, _BY[:-1])
    if RUN.exact_test_accuracy not in epochs:
        epochs = epochs.assign(**{RUN.exact_test_accuracy: float("nan")})
    percent = {
        "test_accuracy_percent": 100 * epochs[EPOCH.epoch_test_accuracy],
        "exact_accuracy_percent": 100 * epochs[RUN.exact_test_accuracy],
        "prediction_error": epochs[EPOCH.epoch_prediction_error],
    }
    return summary(epochs.assign(**percent), _BY, list(percent))


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """One panel, both axes logarithmic; the band runs from the smallest to the largest of the seeds."""
    ax = figure.subplots()
    looks = {}
    for (kernel, solver), series in frame.groupby(["kernel", "solver"]):
        look = {"color": style.kernel_colour(kernel), **style.solver_style(solver)}
        style.mean_and_band(ax, series, "epoch", "prediction_error", **look)
        looks[f"{kernel}, {solver}"] = look
    style.log_axis(ax.xaxis, frame["epoch"])
    ax.set_yscale("log")
    ax.set(xlabel="epochs", ylabel="|f - f*| / |f*| on the test points")
    style.key(figure, list(looks.items()))


def facts(frame: pd.DataFrame) -> list[str]:
    """Where each kernel got to."""
    said = []
    for (kernel, solver), series in frame.groupby(["kernel", "solver"]):
        last = series.loc[series["epoch"].idxmax()]
        accuracy = ""
        if pd.notna(last["exact_accuracy_percent"]):
            accuracy = f"; test accuracy {last['test_accuracy_percent']:.2f}%, exact solution {last['exact_accuracy_percent']:.2f}%"
        said.append(
            f"{kernel}, {solver}: relative distance {last['prediction_error']:.2g} after "
            f"{last['epoch']:.0f} epochs{accuracy}."
        )
    return said


FIGURE = Figure(
    title="Interpolation: distance to the exact solution",
    shows="f* is the dense solution of the original kernel, f what EigenPro has with the adapted one.",
    expected="they meet.",
    needs=("kernel", "dataset", "n"),
    point=("dataset", "n", "kernel", "bandwidth", "solver"),
    one=("dataset", "n", "bandwidth"),
    history=(EPOCH.epoch_prediction_error, EPOCH.epoch_test_accuracy),
    table=table,
    draw=draw,
    facts=facts,
)
