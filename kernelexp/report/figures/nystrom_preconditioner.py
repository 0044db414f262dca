"""Epochs to one training loss against the size of the subsample that the preconditioner is made from."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import EPOCH, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, epochs_to, from_then_on, summary

_SIZE, _TARGET = "solver.subsample_size", "solver.stop.train_mse"
# Times as many epochs as with the largest subsample that still count as near.
_NEAR = 1.5
_BY = ["dataset", "n", "kernel", "bandwidth", RUN.q, "target_mse", "s"]


def table(data: Data) -> pd.DataFrame:
    """Epochs to the loss, m* of the adapted kernel and set-up seconds by q and subsample size s; s = n: of all points."""
    epochs = pd.DataFrame(
        [
            {"run": run, "epochs_to_loss": _epochs(own.sort_values("epoch"))}
            for run, own in data.epochs().groupby("run")
        ]
    )
    data.runs = data.runs.merge(epochs, on="run", how="left")
    reached = data.runs["epochs_to_loss"].notna()
    data.keep(reached, f"never reached the training loss {_TARGET}")
    runs = data.runs.assign(s=data.runs[_SIZE], target_mse=data.runs[_TARGET])
    values = ["epochs_to_loss", RUN.m_star_adapted, RUN.setup_seconds]
    return summary(runs, _BY, values).astype({"s": float, RUN.q: int})


def _epochs(own: pd.DataFrame) -> float:
    return epochs_to(own["epoch"], own[EPOCH.epoch_train_mse], own[_TARGET].iloc[0])


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Epochs on the left, m* on the right, a colour for each q."""
    panels = figure.subplots(1, 2)
    directions = sorted(set(frame[RUN.q]))
    colours = style.noise_colours(directions)
    labels = {
        "epochs_to_loss": "epochs to the training loss",
        RUN.m_star_adapted: "m* of the adapted kernel",
    }
    for ax, (value, label) in zip(panels, labels.items(), strict=True):
        for q, series in frame.groupby(RUN.q):
            style.mean_and_range(ax, series, "s", value, color=colours[q], marker="o")
        style.log_axis(ax.xaxis)
        style.log_axis(ax.yaxis)
        ax.set(xlabel="points in the subsample s", ylabel=label)
    style.key(figure, [style.colour_entry(f"q = {q}", colours[q]) for q in directions])


def facts(frame: pd.DataFrame) -> list[str]:
    """Epochs of the smallest subsample and of the largest."""
    said = [
        f"Training loss to be reached: MSE {target:.3g}."
        for target in sorted(set(frame["target_mse"]))
    ]
    for q, own in frame.groupby(RUN.q):
        own = own.sort_values("s")
        epochs, sizes = own["epochs_to_loss"], own["s"]
        near = sizes[from_then_on(epochs <= _NEAR * epochs.iloc[-1])].iloc[0]
        said.append(
            f"q = {q}: {epochs.iloc[0]:.3g} epochs with s = {sizes.iloc[0]:,.0f}, {epochs.iloc[-1]:.3g} with s = "
            f"{sizes.iloc[-1]:,.0f}, at most {_NEAR:g} times as many as that from s = {near:,.0f}."
        )
    return said


FIGURE = Figure(
    title="How few points a preconditioner needs",
    shows="Epochs of EigenPro 2 to one training loss, and the critical batch size of the kernel it adapts, against the number of points from "
    "which its q directions are computed.",
    expected="a subsample that grows as the logarithm of n makes a preconditioner nearly as good as that of all points.",
    needs=("kernel", "dataset", "n", "solver", RUN.q, _SIZE, _TARGET, RUN.m_star_adapted),
    point=("dataset", "n", "kernel", "bandwidth", RUN.q, _SIZE),
    one=("dataset", "n", "kernel", "bandwidth", "solver", _TARGET),
    history=(EPOCH.epoch_train_mse,),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (8.0, 4.0),
)
