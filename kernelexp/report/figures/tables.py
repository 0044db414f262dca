"""Kernel machines beside other learners on tables, same splits: test accuracy or R2, mean over seeds."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN, SCORES
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_PEERS = {
    "nearest_neighbour": "nearest neighbour",
    "svm": "SVM",
    "kernel_ridge": "KernelRidge",
    "boosting": "boosted trees",
}
# Panels beside each other.
_COLUMNS = 4
_GREY = "0.45"


def table(data: Data) -> pd.DataFrame:
    """The score in percent by data set and learner; a peer once for each seed, whatever kernels stand beside it."""
    runs, parts = data.runs, []
    for name in SCORES:
        if name not in runs:
            continue
        own = runs[runs[name].notna()]
        parts.append(own.assign(learner=own["kernel"], score=100 * own[name], measure=name))
        for peer, label in _PEERS.items():
            column = f"{peer}_{name}"
            if column in own:
                once = own.dropna(subset=[column]).drop_duplicates(["dataset", "n", "seed"])
                parts.append(once.assign(learner=label, score=100 * once[column], measure=name))
    return summary(
        pd.concat(parts, ignore_index=True), ["measure", "dataset", "n", "learner"], ["score"]
    )


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each data set, its learners from best to worst."""
    sets = list(dict.fromkeys(frame["dataset"]))
    rows = -(-len(sets) // _COLUMNS)
    axes = figure.subplots(rows, min(len(sets), _COLUMNS), squeeze=False).flatten()
    for ax in axes[len(sets) :]:
        ax.axis("off")
    for ax, dataset in zip(axes, sets, strict=False):
        own = frame[frame["dataset"] == dataset].sort_values("score", ignore_index=True)
        for row, record in enumerate(own.to_dict("records")):
            peer = record["learner"] in _PEERS.values()
            colour = _GREY if peer else style.kernel_colour(record["learner"])
            mean = record["score"]
            bars = style.bars(mean, record["score_min"], record["score_max"])
            ax.errorbar(mean, row, xerr=bars, fmt="s" if peer else "o", color=colour)
        ax.set_yticks(range(len(own)), own["learner"])
        ax.set_xlabel(
            "test R2 (%)" if own["measure"].iloc[0] == RUN.test_r2 else "test accuracy (%)"
        )
        style.accuracy_axis(ax.xaxis)
        ax.set_title(f"{dataset}, n = {own['n'].iloc[0]:,.0f}", fontsize=9)


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, a column for each learner: mean and standard deviation over seeds."""

    def cell(record: dict[str, float]) -> str:
        spread = f" \u00b1 {record['score_sd']:.1f}" if record["seeds"] > 1 else ""
        return f"{record['score']:.1f}{spread}"

    cells = frame.assign(cell=[cell(record) for record in frame.to_dict("records")])
    wide = cells.pivot(index=["dataset", "n", "measure"], columns="learner", values="cell").fillna(
        ""
    )
    return wide.reset_index().rename_axis(columns=None)


FIGURE = Figure(
    title="Tables: kernels beside other learners",
    shows="Test accuracy or R2; each seed draws test rows anew. Squares are other learners; the table has standard deviations over "
    "seeds.",
    needs=("kernel", "dataset", "n", "solver"),
    point=("dataset", "n", "kernel"),
    one=("n", "bandwidth", "solver"),
    table=table,
    draw=draw,
    extra={"printed": printed},
    size=lambda frame: (
        3.4 * min(frame["dataset"].nunique(), _COLUMNS),
        3.2 * -(-frame["dataset"].nunique() // _COLUMNS),
    ),
)
