"""Steps and time to a fixed training loss against the batch size, original and adapted kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase
from scipy.optimize import curve_fit

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, counted, epochs_to, summary

_BY = ["dataset", "n", "kernel", "bandwidth", "adapted", RUN.batch_size, "target_mse"]
# The largest q of a kernel that counts as original.
_ORIGINAL_Q = 0


def table(data: Data) -> pd.DataFrame:
    """Epochs, steps = epochs * ceil(n / m) and training seconds to the loss, by kernel and batch size."""
    data.runs = data.runs.assign(
        adapted=data.runs[RUN.q] > _ORIGINAL_Q, target_mse=data.runs["solver.stop.train_mse"]
    )
    asked = data.runs["solver.q"].astype(object).fillna("chosen").astype(str)
    if data.runs["adapted"].any():
        newest = asked[data.runs["adapted"]].iloc[0]
        same = ~data.runs["adapted"] | (asked == newest)
        data.keep(same, f"of another q than the newest adapted one (solver.q={newest})")
    reached = pd.DataFrame(
        [
            _reach(run, own.sort_values("epoch"), own["target_mse"].iloc[0])
            for run, own in data.epochs().groupby("run")
        ]
    )
    runs = data.runs.merge(reached, on="run", how="left")
    data.runs = runs
    data.keep(
        runs["epochs_to_loss"].notna(), "never reached the training loss solver.stop.train_mse"
    )
    steps = data.runs["epochs_to_loss"] * np.ceil(data.runs["n"] / data.runs[RUN.batch_size])
    star = data.runs[RUN.m_star].where(~data.runs["adapted"], data.runs[RUN.m_star_adapted])
    values = ["epochs_to_loss", "steps", "seconds", "critical_batch_size"]
    return summary(data.runs.assign(steps=steps, critical_batch_size=star), _BY, values)


def _reach(run: str, own: pd.DataFrame, target: float) -> dict[str, object]:
    epochs = epochs_to(own["epoch"], own[EPOCH.epoch_train_mse], target)
    clock = np.concatenate([[0.0], own[EPOCH.epoch_seconds].cumsum()])
    seconds = np.interp(epochs, np.concatenate([[0.0], own["epoch"]]), clock)
    return {"run": run, "epochs_to_loss": epochs, "seconds": seconds}


def _name(adapted: bool) -> str:
    return "adapted kernel k_G" if adapted else "original kernel k"


_LOOKS = {False: {"marker": "o", "linestyle": "-"}, True: {"marker": "s", "linestyle": "--"}}


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Steps on the left, seconds on the right, analytic critical batch sizes as vertical lines."""
    panels = figure.subplots(1, 2)
    labels = ("steps to the training loss", "training time to the loss (s)")
    for ax, value, label in zip(panels, ("steps", "seconds"), labels, strict=True):
        for (_, _, kernel, _, adapted, _), series in frame.groupby(
            [c for c in _BY if c != RUN.batch_size], dropna=False
        ):
            colour = style.kernel_colour(kernel)
            style.mean_and_range(ax, series, RUN.batch_size, value, color=colour, **_LOOKS[adapted])
            ax.axvline(
                series["critical_batch_size"].mean(), color=colour, linewidth=1, alpha=0.6,
                linestyle=_LOOKS[adapted]["linestyle"],
            )  # fmt: skip
            if value == "steps":
                first = series.sort_values(RUN.batch_size).iloc[0]
                ideal = first["steps"] * first[RUN.batch_size] / series[RUN.batch_size]
                ax.plot(
                    series[RUN.batch_size], ideal, color=style.GREY, linewidth=0.8, linestyle=":"
                )
        style.log_axis(ax.xaxis)
        style.log_axis(ax.yaxis)
        ax.set(xlabel="batch size m", ylabel=label)
    low = frame["steps"].min()
    panels[0].set_ylim(bottom=low / 3)
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [(_name(adapted), _LOOKS[adapted]) for adapted in sorted(set(frame["adapted"]))]
    entries += [
        ("m* of that kernel (vertical)", {"linestyle": "-", "linewidth": 1, "alpha": 0.6}),
        ("steps in proportion to 1/m", {"linestyle": ":", "linewidth": 0.8}),
    ]
    style.key(figure, entries, columns=3)


def facts(frame: pd.DataFrame) -> list[str]:
    """The knee measured, by fitting steps = A (1 + (m_hat - 1) / m), beside the analytic m*."""
    said = [
        f"Training loss to be reached: MSE {target:.3g}; epochs between two records are interpolated in "
        "the logarithm of the loss. Seconds are of training alone, without set-up."
        for target in sorted(set(frame["target_mse"]))
    ]
    early = int((frame["epochs_to_loss"] <= 1).sum())
    if early:
        said.append(
            f"{counted(early, 'point')} reached the loss within the first epoch and stand at its end: an "
            "upper bound."
        )
    for (kernel, adapted), series in frame.groupby(["kernel", "adapted"]):
        knee = _knee(series[series["epochs_to_loss"] > 1])
        analytic = series["critical_batch_size"].mean()
        said.append(f"{kernel}, {_name(adapted)}: {knee}, analytic m* = {analytic:.4g}.")
    return said


def _knee(series: pd.DataFrame) -> str:
    """The batch size where linear scaling ends, in words.

    Steps are proportional to 1 / eta(m), and so to 1 + (m* - 1) / m.
    """
    if series[RUN.batch_size].nunique() < 3:
        return "too few batch sizes to fit a knee"

    def log_steps(m: Any, log_a: float, log_excess: float) -> Any:
        return log_a + np.log1p(np.exp(log_excess) / m)

    m, steps = series[RUN.batch_size].to_numpy(float), series["steps"].to_numpy(float)
    start = np.log(steps.min()), np.log(np.median(m))
    (_, excess), _ = curve_fit(log_steps, m, np.log(steps), p0=start, maxfev=5000)
    knee = 1 + np.exp(excess)
    return f"no knee up to m = {m.max():.0f}" if knee > m.max() else f"measured knee m = {knee:.3g}"


FIGURE = Figure(
    title="Batch size: steps and time to a fixed training loss",
    shows="Steps and seconds to one training loss; vertical lines are the analytic critical batch sizes m*.",
    expected="steps fall in proportion to 1/m up to the critical batch size and no further; the adapted "
    "kernel moves that knee far to the right.",
    needs=(
        "kernel",
        "dataset",
        "n",
        RUN.batch_size,
        RUN.q,
        RUN.m_star,
        RUN.m_star_adapted,
        "solver.stop.train_mse",
    ),
    point=("dataset", "n", "kernel", "bandwidth", "solver.q", RUN.batch_size),
    one=("dataset", "n", "bandwidth", "solver.stop.train_mse"),
    history=(EPOCH.epoch_train_mse, EPOCH.epoch_seconds),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (8.0, 4.4),
)
