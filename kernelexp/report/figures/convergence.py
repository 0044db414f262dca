"""Test error by epoch, EigenPro against SGD, the interpolated solution as a line: Belkin et al., table 3."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import paper as papers
from kernelexp.report import style
from kernelexp.report.figures import Claim, Figure
from kernelexp.report.frames import (
    HERE,
    Data,
    from_then_on,
    here,
    of_all_seeds,
    paper,
    summary,
    with_paper,
)

_BY = ["dataset", "n", "kernel", "bandwidth", "solver", "epoch"]
# Of the interpolated solution's error: what counts as having come to it.
_NEAR_SHARE = 0.05


def table(data: Data) -> pd.DataFrame:
    """Test error in percent by kernel, solver and epoch; the exact solution has no epoch."""
    exact = data.runs[data.runs["solver"] == "exact"]
    rows = data.epochs()
    rows = rows[rows["solver"] != "exact"].dropna(subset=[EPOCH.epoch_test_accuracy])
    rows = of_all_seeds(rows, _BY[:-1])
    accuracy = {EPOCH.epoch_test_accuracy: exact[RUN.test_accuracy]}
    last = exact.assign(epoch=float("nan"), **accuracy)
    every = pd.concat([frame for frame in (rows, last) if len(frame)], ignore_index=True)
    every = every.assign(test_error_percent=100 * (1 - every[EPOCH.epoch_test_accuracy]))
    found = summary(every, _BY, ["test_error_percent"])
    points = papers.points("convergence")
    if data.runs["noise"].any():  # the paper's are without
        points = points[:0]
    ours = set(zip(found["dataset"], found["kernel"], found["solver"], strict=True))
    columns = zip(points["dataset"], points["kernel"], points["solver"], strict=True)
    return with_paper(found, points[[settings in ours for settings in columns]])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """One panel; colour is kernel, marker is solver."""
    ax = figure.subplots()
    frame = style.lifted(frame, "test_error_percent")
    by_epoch = frame.dropna(subset=["epoch"])
    for (kernel, solver), series in here(by_epoch).groupby(["kernel", "solver"]):
        look = {"color": style.kernel_colour(kernel), **style.solver_style(solver)}
        style.mean_and_band(ax, series, "epoch", "test_error_percent", **look)
    for (kernel, solver), series in paper(by_epoch).groupby(["kernel", "solver"]):
        marker = style.solver_style(solver)["marker"]
        colour = style.kernel_colour(kernel)
        style.hollow(ax, series["epoch"], series["test_error_percent"], color=colour, marker=marker)
    for record in frame[frame["epoch"].isna()].to_dict("records"):
        colour, error = style.kernel_colour(record["kernel"]), record["test_error_percent"]
        if record["source"] == HERE:
            ax.axhline(error, color=colour, linestyle="--", linewidth=1.2)
        else:
            style.hollow(ax, [1.25 * frame["epoch"].max()], [error], color=colour, marker="s")
    style.log_axis(ax.xaxis, [e for e in (1, 2, 5, 10, 20, 50, 100) if e <= frame["epoch"].max()])
    style.log_axis(ax.yaxis)
    ax.set(xlabel="epochs", ylabel="test error (%)")
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [(s, style.solver_style(s)) for s in sorted(set(here(by_epoch)["solver"]))]
    if here(frame)["epoch"].isna().any():
        entries.append(("interpolated (exact)", {"linestyle": "--", "linewidth": 1.2}))
    entries += _of_papers(paper(frame))
    style.key(figure, entries, columns=3)


def _of_papers(points: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """A legend entry for each shape of hollow markers."""
    entries = []
    for (n, solver), own in points.groupby(["n", "solver"]):
        look = {"marker": style.solver_style(solver)["marker"]}
        if own["epoch"].isna().all():
            solver, look["linestyle"] = "interpolated", ""
        entries.append(style.paper_entry(f"papers, n = {n:,.0f}: {solver}", **look))
    return entries


def facts(frame: pd.DataFrame) -> list[str]:
    """Errors at the paper's epochs, beside the paper's."""
    said = []
    for (n, kernel, solver), own in here(frame).groupby(["n", "kernel", "solver"]):
        if solver == "exact":
            said.append(f"{kernel}, interpolated: {own['test_error_percent'].iloc[0]:.2f}%.")
            continue
        errors = own.set_index("epoch")["test_error_percent"]
        at = [e for e in (1, 2, 5, 10, 20) if e in errors.index] or [errors.index.max()]
        numbers = "/".join(f"{errors[e]:.2f}" for e in at)
        epochs = "/".join(f"{e:.0f}" for e in at)
        said.append(f"{kernel}, {solver}, n = {n:,.0f}: {numbers}% at {epochs} epochs.")
    said += _caught_up(here(frame)) + style.of_zeros(frame, "test_error_percent")
    sources = "; ".join(sorted(set(paper(frame)["source"])))
    return (
        [*said, f"Hollow markers: {sources}; squares at the right edge: interpolated."]
        if sources
        else said
    )


def _caught_up(own: pd.DataFrame) -> list[str]:
    """When each solver came near the error of the interpolated solution of its kernel."""
    exact = own[own["solver"] == "exact"].groupby(["n", "kernel"])["test_error_percent"].mean()
    said = []
    for (n, kernel, solver), series in own[own["solver"] != "exact"].groupby(
        ["n", "kernel", "solver"]
    ):
        if (n, kernel) in exact:
            series = series.sort_values("epoch")
            met = series["test_error_percent"] <= (1 + _NEAR_SHARE) * exact[n, kernel]
            near = series.loc[from_then_on(met), "epoch"].min()
            when = "never" if pd.isna(near) else f"from epoch {near:.0f}"
            said.append(
                f"{kernel}, {solver}: within {100 * _NEAR_SHARE:.0f}% of the interpolated error {when} (of "
                f"{series['epoch'].max():.0f} epochs)."
            )
    return said


FIGURE = Figure(
    title="Test error by epoch: EigenPro, SGD and the interpolated solution",
    shows="Test error by epoch of each kernel and solver; dashed lines are interpolated solutions.",
    expected="EigenPro comes to the error of the interpolated solution within a few epochs, SGD needs many "
    "more.",
    needs=("kernel", "dataset", "n", "noise", "solver", RUN.test_accuracy),
    point=("dataset", "n", "kernel", "bandwidth", "solver"),
    one=("dataset", "n", "noise", "bandwidth"),
    history=(EPOCH.epoch_test_accuracy,),
    table=table,
    draw=draw,
    claim=Claim("test_error_percent", tolerance=0.1),
    facts=facts,
)
