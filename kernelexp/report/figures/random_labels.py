"""Epochs to zero training error with true and with random labels: Belkin, Ma, Mandal 2018."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import paper as papers
from kernelexp.report import style
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import BY_TRAIN_ERROR, Data, here, paper, summary, with_paper

_LABELS = {0.0: "true", 1.0: "random"}
_OFFSETS = {"true": -0.2, "random": 0.2}
_MARKERS = {"true": "o", "random": "s"}


def table(data: Data) -> pd.DataFrame:
    """Epochs by kernel and labels; ``reached`` is the share of runs that got to zero error."""
    data.keep(data.runs["noise"].isin(list(_LABELS)), "with noise other than 0 and 1")
    data.keep(data.runs["noise_kind"] == "uniform", "with other than uniform label noise")
    asked = pd.to_numeric(data.runs["solver.stop.train_error"], errors="coerce")
    data.keep(asked == 0, "that were not to go on to zero error (solver.stop.train_error=0)")
    reached = data.runs["stopped_by"].eq(BY_TRAIN_ERROR).astype(float)
    runs = data.runs.assign(labels=data.runs["noise"].map(_LABELS), reached=reached)
    by = ["dataset", "n", "kernel", "bandwidth", "solver", "labels"]
    found = summary(runs, by, [RUN.epochs, "reached"])
    found = found.drop(columns=["reached_sd", "reached_min", "reached_max"])
    points = papers.points("random_labels")
    shared = points["kernel"].isin(set(found["kernel"])) & points["dataset"].isin(
        set(found["dataset"])
    )
    return with_paper(found, points[shared])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A pair of points for each kernel, the paper's numbers as hollow markers."""
    ax = figure.subplots()
    kernels = sorted(set(frame["kernel"]), reverse=True)
    at = {kernel: place for place, kernel in enumerate(kernels)}
    for record in here(frame).to_dict("records"):
        x = at[record["kernel"]] + _OFFSETS[record["labels"]]
        colour = style.kernel_colour(record["kernel"])
        low, high = record[f"{RUN.epochs}_min"], record[f"{RUN.epochs}_max"]
        ax.plot([x, x], [low, high], color=colour, linewidth=1, marker="_")
        ax.plot(x, record[RUN.epochs], color=colour, marker=_MARKERS[record["labels"]])
        more = "" if record["reached"] == 1 else "> "
        ax.annotate(f"{more}{record[RUN.epochs]:.3g}", (x, high), (0, 6),
                    textcoords="offset points", ha="center")  # fmt: skip
    for record in paper(frame).to_dict("records"):
        x = at[record["kernel"]] + _OFFSETS[record["labels"]] + 0.12
        style.hollow(ax, [x], [record[RUN.epochs]], color=style.BLACK, marker="D")
    style.log_axis(ax.yaxis)
    ax.set(ylim=(0.8, 2.2 * frame[RUN.epochs].max()), xlim=(-0.6, len(kernels) - 0.4))
    ax.set_ylabel("epochs to zero training error")
    ax.set_xticks(range(len(kernels)), kernels)
    ax.grid(False, axis="x")
    entries = [
        (f"{labels} labels", {"marker": marker, "color": style.GREY, "linestyle": ""})
        for labels, marker in _MARKERS.items()
    ]
    if len(paper(frame)):
        label = f"{paper(frame)['source'].iloc[0]}, n = 60,000"
        entries.append(style.paper_entry(label, color=style.BLACK, marker="D", linestyle="none"))
    style.key(figure, entries, columns=3)


def facts(frame: pd.DataFrame) -> list[str]:
    """How many times more epochs random labels take."""
    said = []
    for (_, kernel), own in frame.assign(paper=frame["source"] != "here").groupby(
        ["paper", "kernel"]
    ):
        epochs = own.set_index("labels")[RUN.epochs]
        if {"true", "random"} <= set(epochs.index) and epochs.index.is_unique:
            reached = own.set_index("labels")["reached"].fillna(1).eq(1)
            if not reached["true"]:
                continue  # how many it takes is not known
            more = "" if reached["random"] else "more than "
            who = "" if own["source"].iloc[0] == "here" else f" ({own['source'].iloc[0]})"
            said.append(
                f"{kernel}{who}: {epochs['true']:.3g} to {epochs['random']:.3g} epochs, "
                f"{more}{epochs['random'] / epochs['true']:.3g} times as many."
            )
    return said


FIGURE = Figure(
    title="Epochs to zero training error: true against random labels",
    shows="Epochs that each kernel takes. A > marks runs that ended before zero error.",
    expected="random labels cost the Laplacian kernel little more and the smooth Gaussian kernel many times "
    "more.",
    needs=("kernel", "dataset", "n", "noise", "solver", "solver.stop.train_error", RUN.epochs),
    point=("dataset", "n", "kernel", "bandwidth", "noise", "solver"),
    one=("dataset", "n", "solver", "bandwidth"),
    table=table,
    draw=draw,
    claim=Claim(RUN.epochs, tolerance=0.5),
    facts=facts,
)
