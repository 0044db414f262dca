"""Ridge regression with one ridge: test error against seconds, epoch by epoch, of every solver."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, of_all_seeds, summary

_PROBLEM = ["measure", "dataset", "kernel", "n"]
# What counts as the best error: up to this share above it.
_NEAR = 0.01
# Panels beside each other.
_COLUMNS = 4


def table(data: Data) -> pd.DataFrame:
    """Test error, or 1 - R2, in percent and seconds since the start by data set, solver and epoch.

    ``residual``: the relative residual at the end, of solvers that have one.
    """
    epochs, parts = data.epochs().sort_values(["run", "epoch"]), []
    epochs = of_all_seeds(epochs, [*_PROBLEM[1:], "solver"])
    seconds = epochs[RUN.setup_seconds] + epochs.groupby("run")[EPOCH.epoch_seconds].cumsum()
    epochs = epochs.assign(seconds=seconds, residual=epochs.get(RUN.relative_residual))
    for score in (EPOCH.epoch_test_accuracy, EPOCH.epoch_test_r2):
        if score in epochs:
            own = epochs.dropna(subset=[score])
            parts.append(own.assign(measure=score, error_percent=100 * (1 - own[score])))
    if not any(len(part) for part in parts):
        raise ValueError("no run has test scores by epoch")
    every = pd.concat(parts, ignore_index=True).astype({"residual": float})
    return summary(every, [*_PROBLEM, "solver", "epoch"], ["seconds", "error_percent", "residual"])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each data set; colour and marker are of the solver."""
    frame = style.lifted(frame, "error_percent")
    problems = list(frame.groupby(_PROBLEM))
    columns = min(len(problems), _COLUMNS)
    axes = figure.subplots(-(-len(problems) // columns), columns, squeeze=False).flatten()
    entries = {}
    for ax in axes[len(problems) :]:
        ax.axis("off")
    for ax, ((measure, dataset, kernel, n), own) in zip(axes, problems, strict=False):
        for solver, series in own.groupby("solver"):
            look = {"color": style.solver_colour(solver), **style.solver_style(solver)}
            style.mean_and_band(ax, series, "seconds", "error_percent", **look)
            entries[solver] = look
        style.log_axis(ax.xaxis)
        style.log_axis(ax.yaxis)
        of = "test error (%)" if measure == EPOCH.epoch_test_accuracy else "1 - test R2 (%)"
        ax.set(
            xlabel="set-up + training (s)", ylabel=of, title=f"{kernel}, {dataset}, n = {n:,.0f}"
        )
    style.key(figure, list(entries.items()))


def near(frame: pd.DataFrame) -> pd.DataFrame:
    """By data set and solver the seconds and epochs to within 1% of the best test error that any solver had."""
    best = frame.groupby(_PROBLEM)["error_percent"].transform("min")
    frame = frame.assign(best_percent=best, met=frame["error_percent"] <= (1 + _NEAR) * best)
    rows = []
    for _, own in frame.sort_values("epoch").groupby([*_PROBLEM, "solver"]):
        last = own.iloc[-1]
        first = own[own["met"]].head(1)
        rows.append(
            {
                **last[[*_PROBLEM, "solver", "best_percent"]],
                "lowest_percent": own["error_percent"].min(),
                "seconds": first["seconds"].iloc[0] if len(first) else float("nan"),
                "epochs": first["epoch"].iloc[0] if len(first) else float("nan"),
                "epochs_done": last["epoch"],
                "residual": last["residual"],
                "source": last["source"],
                "runs": last["runs"],
            }
        )
    return pd.DataFrame(rows)


def facts(frame: pd.DataFrame) -> list[str]:
    """Who came near the best error, fastest first, of each data set."""
    said = []
    for (_, dataset, _, n), own in near(frame).groupby(_PROBLEM):
        came = own.dropna(subset=["seconds"]).sort_values("seconds")
        times = ", ".join(
            f"{r['solver']} {r['seconds']:.3g} s ({r['epochs']:.0f} epochs)"
            for r in came.to_dict("records")
        )
        others = sorted(set(own["solver"]) - set(came["solver"]))
        missed = f"; not: {', '.join(others)}" if others else ""
        said.append(
            f"{dataset}, n = {n:,.0f}: within {100 * _NEAR:.0f}% of the best, "
            f"{own['best_percent'].iloc[0]:.3g}%: {times}{missed}."
        )
    return said + style.of_zeros(frame, "error_percent")


FIGURE = Figure(
    title="Ridge regression: test error against time",
    shows="Test error, or 1 - R2, of each solver with the same ridge, an epoch a marker; a curve that starts "
    "late spent its time on set-up.",
    needs=("kernel", "dataset", "n", "solver", "solver.ridge", RUN.setup_seconds),
    point=("dataset", "n", "kernel", "solver", "solver.ridge"),
    one=("kernel", "bandwidth", "solver.ridge"),
    history=(EPOCH.epoch_test_accuracy, EPOCH.epoch_test_r2, EPOCH.epoch_seconds),
    table=table,
    draw=draw,
    facts=facts,
    extra={"near": near},
    size=lambda f: (
        3.4 * min(len(f.groupby(_PROBLEM)), _COLUMNS),
        1.0 + 3.4 * -(-len(f.groupby(_PROBLEM)) // _COLUMNS),
    ),
)
