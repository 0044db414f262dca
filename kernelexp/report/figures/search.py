"""What a search tried, and how good each trial was on held-out points."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN, SELECTION
from kernelexp.report import style
from kernelexp.report.captions import varied
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data

# Settings that have a panel of their own, at most.
_PANELS = 4
# What differs between trials beside what is searched.
_OF_SIZES = {"dataset.n_train", "dataset.n_test", "validation", "kernel.name", "solver.name"}


def table(data: Data) -> pd.DataFrame:
    """A row for each trial and each numeric setting that is searched: its value, and the trial's score in percent.

    ``error``: the smaller one is the better of equal scores, as in the search itself.
    """
    runs = data.runs
    score = next((name for name in SELECTION if name in runs and runs[name].notna().any()), None)
    if score is None:
        raise ValueError("no run has held-out points; a search has")
    runs = runs[runs[score].notna()].sort_values("started")
    seconds = runs[[RUN.setup_seconds, RUN.train_seconds]].sum(axis=1)
    error = runs.get(SELECTION[score], float("nan"))
    own = runs.assign(trial=range(1, len(runs) + 1), score=100 * runs[score], by=score,
                      error=error, seconds=seconds.cumsum())  # fmt: skip
    kept = [
        "run",
        "trial",
        "n",
        "kernel",
        "solver",
        "by",
        "score",
        "error",
        RUN.test_accuracy,
        "seconds",
    ]
    frames = []
    for key in sorted(varied(runs) - _OF_SIZES):
        values = pd.to_numeric(own[key], errors="coerce") if key in own else pd.Series(dtype=float)
        if values.notna().any():
            frames.append(own.reindex(columns=kept).assign(setting=key, value=values))
    if not frames:
        frames = [own.reindex(columns=kept).assign(setting="trial", value=own["trial"])]
    table = pd.concat(frames, ignore_index=True)
    return table.assign(runs=table["run"].str[:8], source=HERE)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel a setting: score against value; colour is kernel, larger dots have more points, a ring the best on all."""
    settings = list(dict.fromkeys(frame["setting"]))[:_PANELS]
    axes = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    sizes = sorted(set(frame["n"]))
    area = dict(zip(sizes, np.linspace(14, 60, len(sizes)), strict=True))
    best = _best(frame)
    for ax, setting in zip(axes, settings, strict=True):
        own = frame[frame["setting"] == setting]
        for kernel, series in own.groupby("kernel"):
            ax.scatter(series["value"], series["score"], s=series["n"].map(area), linewidths=0,
                       color=style.kernel_colour(kernel), alpha=0.65)  # fmt: skip
        ring = own[own["run"] == best["run"]]
        ax.scatter(ring["value"], ring["score"], s=150, facecolors="none", edgecolors=style.BLACK)
        if own["value"].min() > 0 and own["value"].max() > 5 * own["value"].min():
            style.log_axis(ax.xaxis)
        ax.set_xlabel(setting)
    low, high = frame["score"].quantile(0.1), frame["score"].max()
    axes[0].set_ylim(low - 0.3 * (high - low) - 0.1, high + 0.1 * (high - low) + 0.1)
    style.accuracy_axis(axes[0].yaxis)
    axes[0].set_ylabel(f"{frame['by'].iloc[0].replace('_', ' ')} (%)")
    entries = [style.colour_entry(k, style.kernel_colour(k)) for k in sorted(set(frame["kernel"]))]
    dots = [(f"n = {n:,.0f}", {"marker": "o", "linestyle": "", "color": style.GREY,
                               "markersize": area[n] ** 0.5}) for n in sizes]  # fmt: skip
    style.key(figure, [*entries, *dots])


def _best(frame: pd.DataFrame) -> pd.Series:
    """The best of the trials on all points; of equal scores, that with the smaller error, then the first."""
    whole = frame[frame["n"] == frame["n"].max()]
    return whole.sort_values(["score", "error"], ascending=[False, True], kind="stable").iloc[0]


def facts(frame: pd.DataFrame) -> list[str]:
    """The best trial, and how many there were on how many points."""
    best = _best(frame)
    # Of what was searched the best trial may not have all: another kernel has other settings.
    own = frame[(frame["run"] == best["run"]) & frame["value"].notna()]
    said = [f"{s} = {v:.4g}" for s, v in zip(own["setting"], own["value"], strict=True)]
    score = f"{best['by'].replace('_', ' ')} {best['score']:.2f}%"
    trials = frame.drop_duplicates("run")
    settings = list(dict.fromkeys(frame["setting"]))
    counts = ", ".join(f"{len(t)} on {n:,.0f} points" for n, t in trials.groupby("n"))
    drawn, more = settings[:_PANELS], settings[_PANELS:]
    without = [f"Drawn: {', '.join(drawn)}; in the table also {', '.join(more)}."] if more else []
    return [
        f"Best: {', '.join([best['kernel'], *said, score])}.",
        *without,
        f"Trials that ended well: {counts}; {frame['seconds'].max():,.0f} s of set-up and training.",
    ]


FIGURE = Figure(
    title="What a search tried",
    shows="Scores on held-out points against each setting that was searched; dots are larger where trials had more points, "
    "and the ring is the best of those with all. The lowest tenth may lie below the picture.",
    needs=("kernel", "dataset", "n"),
    point=("run",),
    one=("parent",),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (2.0 + 2.9 * min(_PANELS, frame["setting"].nunique()), 4.0),
)
