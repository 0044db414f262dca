"""Accuracy and time against the number of centers, by solver, kernel and data set."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import paper, style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary


def table(data: Data) -> pd.DataFrame:
    """Accuracy and seconds by data set, n, kernel, solver and p."""
    runs = data.runs.assign(
        seconds=data.runs[RUN.setup_seconds] + data.runs[RUN.train_seconds],
        test_accuracy_percent=100 * data.runs[RUN.test_accuracy],
    )
    by = ["dataset", "n", "kernel", "bandwidth", "solver", "p"]
    return summary(runs, by, ["test_accuracy_percent", "seconds"]).astype({"p": float})


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A row for each data set: accuracy, then seconds with each kernel; colour is kernel, marker is solver."""
    sets, kernels = sorted(set(frame["dataset"])), sorted(set(frame["kernel"]))
    panels = figure.subplots(len(sets), 1 + len(kernels), squeeze=False)
    for (accuracy, *times), dataset in zip(panels, sets, strict=True):
        own = frame[frame["dataset"] == dataset]
        for ax in times[1:]:
            ax.sharex(times[0])
            ax.sharey(times[0])
        for (kernel, _, solver, _), series in own.groupby(
            ["kernel", "bandwidth", "solver", "n"], dropna=False
        ):
            look = {"color": style.kernel_colour(kernel), **style.solver_style(solver)}
            style.mean_and_range(accuracy, series, "p", "test_accuracy_percent", **look)
            time = times[kernels.index(kernel)]
            style.mean_and_range(time, series, "p", "seconds", **look)
        for ax, title in zip(times, kernels, strict=True):
            ax.set_title(title)
            style.log_axis(ax.yaxis)
        for ax in (accuracy, *times):
            style.log_axis(ax.xaxis, own["p"])
        accuracy.set_title(f"{dataset}, n = {own['n'].max():,.0f}")
        accuracy.set_ylabel("test accuracy (%)")
        style.accuracy_axis(accuracy.yaxis)
        times[0].set_ylabel("set-up + training (s)")
    for ax in panels[-1]:
        ax.set_xlabel("centers p")
    solvers = sorted(set(frame["solver"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [(solver, style.solver_style(solver)) for solver in solvers]
    style.key(figure, entries, columns=len(entries))


def exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """The a of seconds ~ p^a by data set and kernel, a column for each solver; the paper's on its own problem."""
    theirs = paper.points("centers").assign(dataset="cifar5m", kernel="laplacian")
    of_problem: dict[tuple[str, ...], dict[str, float]] = {}
    problem = ["dataset", "kernel", "source"]
    for (*values, solver), series in pd.concat([frame, theirs]).groupby([*problem, "solver"]):
        if series["p"].nunique() >= 2:
            slope = np.polyfit(np.log(series["p"]), np.log(series["seconds"]), 1)[0]
            of_problem.setdefault(tuple(values), {})[solver] = slope
    rows = [{**dict(zip(problem, k, strict=True)), **slopes} for k, slopes in of_problem.items()]
    return pd.DataFrame(rows)


def facts(frame: pd.DataFrame) -> list[str]:
    """How often accuracy grew, and what the table of exponents is."""
    rose = compared = 0
    for _, series in frame.groupby(["dataset", "n", "kernel", "bandwidth", "solver"], dropna=False):
        steps = series.sort_values("p")["test_accuracy_percent"].diff().dropna()
        rose, compared = rose + int((steps > 0).sum()), compared + len(steps)
    grew = (
        f"Accuracy grew in {rose} of {compared} steps from one p to the next." if compared else ""
    )
    return [
        grew,
        "Below: exponents a of seconds ~ p^a by solver. Those of the paper are of another problem: CIFAR5M features, "
        "n = 5M, p = 64k to 1M, one A100.",
    ]


FIGURE = Figure(
    title="Accuracy and time against the number of centers",
    shows="Test accuracy and time by solver and kernel.",
    expected="accuracy grows with p; time grows fastest for the solvers that factor or project at every "
    "batch, slowest for eigenpro4.",
    needs=(
        "kernel",
        "dataset",
        "solver",
        "n",
        "p",
        RUN.setup_seconds,
        RUN.train_seconds,
        RUN.test_accuracy,
    ),
    point=("dataset", "n", "kernel", "bandwidth", "solver", "p"),
    one=("n", "bandwidth"),
    table=table,
    draw=draw,
    facts=facts,
    extra={"exponents": exponents},
    size=lambda f: (3.0 + 2.4 * f["kernel"].nunique(), 0.8 + 2.6 * f["dataset"].nunique()),
)
