"""m*, training time and accuracy of kernels, on each data set."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_VALUES = {
    RUN.m_star: "critical batch size m*",
    "seconds": "set-up + training (s)",
    RUN.epochs: "epochs",
    "test_accuracy_percent": "test accuracy (%)",
}


def table(data: Data) -> pd.DataFrame:
    """m*, epochs, seconds, accuracy and training loss by data set, n and kernel.

    ``reached`` is the share of runs that did not run out of epochs above the training loss they were to stop at.
    """
    asked = data.runs.get("solver.stop.train_mse", pd.Series(float("nan"), data.runs.index)).notna()
    runs = data.runs.assign(
        reached=1.0 - (asked & data.runs["stopped_by"].eq("epochs")),
        seconds=data.runs[RUN.setup_seconds] + data.runs[RUN.train_seconds],
        test_accuracy_percent=100 * data.runs[RUN.test_accuracy],
    )
    by = ["dataset", "n", "kernel", "bandwidth", "solver"]
    found = summary(runs, by, [*_VALUES, RUN.train_mse, "reached"])
    return found.drop(columns=["reached_sd", "reached_min", "reached_max"])


def _dots(ax: Axes, frame: pd.DataFrame, value: str, kernels: list[str]) -> None:
    rows = {kernel: row for row, kernel in enumerate(kernels)}
    for record in frame.to_dict("records"):
        mean, row = record[value], rows[record["kernel"]]
        bars = style.bars(mean, record[f"{value}_min"], record[f"{value}_max"])
        colour = style.kernel_colour(record["kernel"])
        face = colour if record["reached"] == 1 else "white"
        ax.errorbar(
            mean, row, xerr=bars if record["seeds"] > 1 else None, fmt="o", color=colour, mfc=face
        )
        text = f"{mean:.2f}" if value.endswith("percent") else style.short(mean)
        ax.annotate(
            text, (mean, row), (0, 5), textcoords="offset points", ha="center", fontsize=7.5
        )
    ax.set_ylim(len(kernels) - 0.5, -0.7)
    ax.margins(x=0.18)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A row for each data set (its largest n), a panel for each quantity, best accuracy on top; hollow: not ``reached``."""
    largest = frame[frame["n"] == frame.groupby("dataset")["n"].transform("max")]
    sets = sorted(set(largest["dataset"]))
    # One order for all, or a kernel would be looked for in each; a data set that is hard must not move those it has.
    accuracy = largest["test_accuracy_percent"]
    beyond = accuracy - accuracy.groupby(largest["dataset"]).transform("mean")
    kernels = list(beyond.groupby(largest["kernel"]).mean().sort_values(ascending=False).index)
    panels = figure.subplots(len(sets), len(_VALUES), squeeze=False, sharey="row")
    for row, dataset in zip(panels, sets, strict=True):
        own = largest[largest["dataset"] == dataset]
        for ax, value in zip(row, _VALUES, strict=True):
            _dots(ax, own, value, kernels)
            if value.endswith("percent"):
                ax.xaxis.set_major_locator(MaxNLocator(3))
                style.accuracy_axis(ax.xaxis)
            else:
                style.log_axis(ax.xaxis)
        row[0].set_yticks(range(len(kernels)), kernels)
        row[0].set_ylabel(f"{dataset}\nn = {own['n'].iloc[0]:,.0f}")
    for ax, label in zip(panels[-1], _VALUES.values(), strict=True):
        ax.set_xlabel(label)
    if (largest["reached"] < 1).any():
        full = ("ended as asked", {"marker": "o", "linestyle": ""})
        early = ("out of epochs above the training loss asked for", {**full[1], "mfc": "white"})
        style.key(figure, [full, early])


def facts(frame: pd.DataFrame) -> list[str]:
    """Best and worst kernel of each data set and size."""
    said = []
    for (dataset, n), own in frame.groupby(["dataset", "n"]):
        best = own.loc[own["test_accuracy_percent"].idxmax()]
        slow = own.loc[own["seconds"].idxmax()]
        said.append(
            f"{dataset}, n = {n:,.0f}: best {best['kernel']} ({best['test_accuracy_percent']:.2f}%, "
            f"{best['seconds']:.3g} s); slowest {slow['kernel']} "
            f"({slow['test_accuracy_percent']:.2f}%, {slow['seconds']:.3g} s)."
        )
    return said


FIGURE = Figure(
    title="Kernels: critical batch size, time and accuracy",
    shows="Kernels in the order of their accuracy, the same for all data sets. Runs of the preset end at a training "
    "loss of 0.001 or after 40 epochs; the dots of those that ran out of epochs are hollow. Times include set-up, not evaluation.",
    expected="relu_ntk and laplacian do well; gaussian is worse and slower to train.",
    needs=(
        "kernel",
        "dataset",
        "n",
        RUN.m_star,
        RUN.setup_seconds,
        RUN.train_seconds,
        RUN.train_mse,
        RUN.test_accuracy,
    ),
    point=("dataset", "n", "kernel", "bandwidth", "solver"),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda f: (9.6, 1.3 + f["dataset"].nunique() * (0.6 + 0.38 * f["kernel"].nunique())),
)
