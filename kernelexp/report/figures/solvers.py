"""Time to accuracy of every solver on one problem."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, of_all_seeds, summary

_BY = ["dataset", "n", "kernel", "bandwidth", "solver", "p", "epoch"]


def table(data: Data) -> pd.DataFrame:
    """Test error and seconds since the start (set-up and training) by solver, centers and epoch."""
    epochs = data.epochs().dropna(subset=[EPOCH.epoch_test_accuracy]).sort_values(["run", "epoch"])
    epochs = of_all_seeds(epochs, _BY[:-1])
    seconds = epochs[RUN.setup_seconds] + epochs.groupby("run")[EPOCH.epoch_seconds].cumsum()
    # Solvers on all training points need not say that there are n centers.
    epochs = epochs.assign(
        seconds=seconds,
        test_error_percent=100 * (1 - epochs[EPOCH.epoch_test_accuracy]),
        p=epochs["p"].where(epochs["p"].notna(), epochs["n"]).astype(float),
    )
    return summary(epochs, _BY, ["seconds", "test_error_percent"])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each problem; colour and marker are of the solver, all have one kernel."""
    frame = style.lifted(frame, "test_error_percent")
    problems = list(frame.groupby(["dataset", "kernel", "n"]))
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    entries = {}
    for ax, ((dataset, kernel, n), own) in zip(panels, problems, strict=True):
        for (solver, p), series in own.groupby(["solver", "p"]):
            look = {"color": style.solver_colour(solver), **style.solver_style(solver)}
            style.mean_and_band(ax, series, "seconds", "test_error_percent", **look)
            if len(series) == 1:
                ax.plot(series["seconds"], series["test_error_percent"], markersize=9, **look)
            entries[f"{solver}, p = {style.short(p)}" if p < n else solver] = look
        style.log_axis(ax.xaxis)
        style.log_axis(ax.yaxis)
        ax.set(xlabel="set-up + training (s)", title=f"{kernel}, {dataset}, n = {n:,.0f}")
    panels[0].set_ylabel("test error (%)")
    style.key(figure, list(entries.items()))


def facts(frame: pd.DataFrame) -> list[str]:
    """Where each solver ended, fastest first."""
    last = frame.sort_values("epoch").groupby(["dataset", "kernel", "n", "solver", "p"]).tail(1)
    return [
        f"{r['solver']}, p = {r['p']:,.0f}: {r['test_error_percent']:.2f}% after {r['seconds']:.3g} s"
        f" ({r['epoch']:.0f} epochs)."
        for r in last.sort_values("seconds").to_dict("records")
    ] + style.of_zeros(frame, "test_error_percent")


FIGURE = Figure(
    title="Solvers: test error against time",
    shows="How long each solver takes to an error; a curve that starts late spent its time on set-up. A "
    "single large marker is a solver that solves at once.",
    needs=("kernel", "dataset", "n", "solver", RUN.setup_seconds),
    point=("dataset", "n", "kernel", "bandwidth", "solver", "p"),
    one=("bandwidth",),
    history=(EPOCH.epoch_test_accuracy, EPOCH.epoch_seconds),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda f: (3.2 + 3.4 * len(f.groupby(["dataset", "kernel", "n"])), 4.8),
)
