"""Test error, and the angle between what gradients say and the directions that matter, against n."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_BY = ["dataset", "n", "d", "kernel", "bandwidth", RUN.epochs]
_LOOKS = {
    RUN.test_mse: {"marker": "o", "linestyle": "-"},
    RUN.subspace_error: {"marker": "s", "linestyle": "--"},
}
_NAMES = {RUN.test_mse: "test error", RUN.subspace_error: "sine of the angle"}


def table(data: Data) -> pd.DataFrame:
    """Test MSE and the sine by n and rounds; the sine is empty for data that do not know their directions."""
    runs = data.runs
    if RUN.subspace_error not in runs:
        data.notes.append(
            "the directions that matter are not known of these data; no angle is shown"
        )
        runs = runs.assign(**{RUN.subspace_error: np.nan})
    return summary(runs, _BY, list(_LOOKS)).astype({"n": float, RUN.epochs: int})


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Colour: rounds; solid: error, dashed: sine."""
    ax = figure.subplots()
    rounds = sorted(set(frame[RUN.epochs]))
    colours = style.noise_colours(rounds)
    shown = [column for column in _LOOKS if frame[column].notna().any()]
    for number, series in frame.groupby(RUN.epochs):
        for column in shown:
            style.mean_and_range(ax, series, "n", column, color=colours[number], **_LOOKS[column])
    style.log_axis(ax.xaxis, frame["n"])
    ax.set(xlabel="training points n", ylabel=" · ".join(_NAMES[column] for column in shown))
    ax.set_ylim(bottom=0)
    entries = [style.colour_entry(_fits(number), colours[number]) for number in rounds]
    style.key(figure, [*entries, *((_NAMES[column], _LOOKS[column]) for column in shown)])


def _fits(rounds: int) -> str:
    return "one fit" if rounds == 1 else f"{rounds} rounds"


def facts(frame: pd.DataFrame) -> list[str]:
    """Both, for the fewest and for the most points."""
    said = []
    for rounds, series in frame.groupby(RUN.epochs):
        series = series.sort_values("n")
        ends = [_end(row) for row in series.iloc[[0, -1]].to_dict("records")]
        said.append(f"{_fits(int(rounds)).capitalize()}: {'; '.join(ends)}.")
    return said


def _end(row: dict[Hashable, Any]) -> str:
    """The numbers of one n; the sine where the directions are known."""
    sine = row[RUN.subspace_error]
    known = "" if np.isnan(sine) else f", sine {sine:.3g}"
    return f"test error {row[RUN.test_mse]:.3g}{known} (n = {row['n']:,.0f})"


FIGURE = Figure(
    title="Test error, and the directions that matter, against n",
    shows="Mean square error on test points, and the sine of the largest angle between the first eigenvectors of the average gradient outer "
    "product of the last fit and the directions that the target depends on.",
    expected="the average gradient outer product of one fit finds the directions from far fewer points than a small error takes.",
    needs=("kernel", "dataset", "n", "d", "solver", RUN.epochs, RUN.test_mse),
    point=("dataset", "n", "kernel", "bandwidth", "solver", RUN.epochs),
    one=("dataset", "d", "kernel", "bandwidth", "solver"),
    table=table,
    draw=draw,
    facts=facts,
)
