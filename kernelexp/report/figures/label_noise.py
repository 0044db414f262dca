"""Test error against label noise for both stops, Bayes bound and 1-NN: Belkin et al. 2018, figure 5b."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import paper as papers
from kernelexp.report import style
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import (
    Data,
    here,
    n_classes,
    paper,
    summary,
    with_noisy_test_labels,
    with_paper,
    with_stop,
)

_NEIGHBOUR = "nearest_neighbour"
# Percentage points above the Bayes bound that still count as near.
_NEAR_POINTS = 5
_PANELS = {
    "noisy_test_error_percent": "noisy test labels, as in the paper",
    "clean_test_error_percent": "clean test labels, as recorded",
}


def table(data: Data) -> pd.DataFrame:
    """Test error in percent by kernel, stop and noise, against clean and against noisy test labels.

    Runs record the error R against clean test labels; ``noisy_test_error_percent`` is computed from it.
    The nearest neighbour, which depends on the data alone, has rows of its own.
    """
    data.keep(data.runs["noise_kind"] == "uniform", "with other than uniform label noise")
    data.keep(n_classes(data.runs).notna(), "of data whose number of classes is not recorded")
    with_stop(data)
    runs = data.runs.assign(classes=n_classes(data.runs))
    rows = [runs.assign(error=1 - runs[RUN.test_accuracy])]
    accuracy = RUN.nearest_neighbour_test_accuracy
    if accuracy in runs and runs[accuracy].notna().any():
        neighbour = runs[runs[accuracy].notna()].drop_duplicates(["dataset", "n", "noise", "seed"])
        none = {"kernel": _NEIGHBOUR, "stop": "", "bandwidth": float("nan")}
        rows.append(neighbour.assign(error=1 - neighbour[accuracy], **none))
    else:
        data.notes.append(f"no run has {accuracy}; compare=[{_NEIGHBOUR}] adds it")
    every = pd.concat(rows, ignore_index=True)
    every = every.assign(
        clean_test_error_percent=100 * every["error"],
        noisy_test_error_percent=100
        * with_noisy_test_labels(every["error"], every["noise"], every["classes"]),
    )
    by = ["dataset", "n", "kernel", "bandwidth", "stop", "noise", "classes"]
    found = summary(every, by, list(_PANELS))
    points = papers.points("label_noise")
    ours = set(zip(found["dataset"], found["kernel"], strict=True))
    shared = [pair in ours for pair in zip(points["dataset"], points["kernel"], strict=True)]
    return with_paper(found, points[shared])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """The paper's convention on the left, clean test labels on the right."""
    panels = figure.subplots(1, 2)
    for ax, (value, title) in zip(panels, _PANELS.items(), strict=True):
        _panel(ax, frame, value)
        ax.set(title=title, xlabel="label noise (%)", ylim=(-2, 102))
    panels[0].set_ylabel("test error (%)")
    levels = np.linspace(0, 1, 101)
    classes = here(frame)["classes"].max()
    bound = 100 * with_noisy_test_labels(0.0, pd.Series(levels), classes)
    panels[0].plot(100 * levels, bound, color=style.BLACK, linewidth=1)
    names = set(here(frame)["kernel"])
    entries = [style.colour_entry(k, style.kernel_colour(k)) for k in sorted(names - {_NEIGHBOUR})]
    entries += [
        (stop, style.STOP_STYLES[stop]) for stop in sorted(set(frame["stop"].dropna()) - {""})
    ]
    if _NEIGHBOUR in names:
        entries.append(("1 nearest neighbour", {"marker": "x", "linestyle": ":"}))
    entries.append(("Bayes bound (R* = 0)", {"color": style.BLACK, "linewidth": 1}))
    if len(paper(frame)):
        entries.append(style.paper_entry(paper(frame)["source"].iloc[0], marker="D"))
    style.key(figure, entries)


def _panel(ax: Axes, frame: pd.DataFrame, value: str) -> None:
    frame = frame.assign(percent=100 * frame["noise"])
    for (kernel, stop), series in here(frame).groupby(["kernel", "stop"]):
        if kernel == _NEIGHBOUR:
            look = {"color": style.GREY, "marker": "x", "linestyle": ":"}
        else:
            look = {"color": style.kernel_colour(kernel), **style.STOP_STYLES[stop]}
        style.mean_and_range(ax, series, "percent", value, **look)
    for kernel, series in paper(frame).dropna(subset=[value]).groupby("kernel"):
        colour = style.kernel_colour(kernel)
        style.hollow(ax, series["percent"], series[value], color=colour, marker="D")


def facts(frame: pd.DataFrame) -> list[str]:
    """The conventions, and how far above the bound each kernel stays."""
    said = [
        "Runs corrupt training labels only and record the error R against clean test labels (right). "
        "The paper corrupts test labels too: on the left stands eps (l-1)/l + (1-eps) R, the error "
        "expected when a test label is drawn uniformly from all l classes with probability eps. The "
        "Bayes bound is eps (l-1)/l, that of labels without other noise."
    ]
    own = here(frame)
    bound = 100 * own["noise"] * (own["classes"] - 1) / own["classes"]
    own = own.assign(above=own["noisy_test_error_percent"] - bound)
    for (kernel, stop), series in own.groupby(["kernel", "stop"]):
        worst = series.loc[series["above"].idxmax()]
        series = series.sort_values("noise")
        near = series[(series["above"] <= _NEAR_POINTS).cummin()]["noise"].max()
        within = f"within {_NEAR_POINTS} points of the bound up to {100 * near:.3g}% noise, "
        if np.isnan(near):
            within = ""
        name = "1 nearest neighbour" if kernel == _NEIGHBOUR else f"{kernel}, {stop}"
        said.append(
            f"{name}: {within}at most {worst['above']:.1f} points above it "
            f"(at {100 * worst['noise']:.3g}%)."
        )
    return said


FIGURE = Figure(
    title="Test error against label noise",
    shows="Test error of models that fit noisy labels exactly, beside the Bayes bound and the nearest "
    "neighbour.",
    expected="they stay near the bound until the noise is high, far below the nearest neighbour.",
    needs=("kernel", "dataset", "n", "noise", "solver", RUN.test_accuracy),
    point=("dataset", "n", "kernel", "bandwidth", "noise", "solver"),
    one=("dataset", "n", "bandwidth"),
    table=table,
    draw=draw,
    claim=Claim("noisy_test_error_percent", tolerance=2.5, absolute=True),
    facts=facts,
    size=lambda frame: (8.2, 4.6),
)
