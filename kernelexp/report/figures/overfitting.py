"""Test error of interpolation and of a ridge against n, by noise: benign, tempered or catastrophic overfitting."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import Data, summary

_RIDGE = "solver.ridge"
_BY = ["dataset", "kernel", "bandwidth", "noise", _RIDGE, "n"]
_LOOKS = (("o", "-"), ("s", "--"), ("D", ":"), ("^", "-."), ("v", (0, (5, 1))))


def table(data: Data) -> pd.DataFrame:
    """Test MSE by kernel, noise, ridge and n."""
    return summary(data.runs, _BY, [RUN.test_mse]).astype({"n": float, _RIDGE: float})


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A panel for each noise; colour is kernel, a solid line interpolates, each other one has a ridge of its own."""
    levels, looks = sorted(set(frame["noise"])), _looks(frame)
    panels = figure.subplots(1, len(levels), squeeze=False, sharey=True)[0]
    for ax, noise in zip(panels, levels, strict=True):
        own = frame[frame["noise"] == noise]
        for (kernel, _, ridge), series in own.groupby(
            ["kernel", "bandwidth", _RIDGE], dropna=False
        ):
            colour = style.kernel_colour(kernel)
            style.mean_and_range(ax, series, "n", RUN.test_mse, color=colour, **looks[ridge])
        style.log_axis(ax.xaxis, frame["n"])
        ax.set(title=f"noise {noise:g}", xlabel="training points n")
    style.log_axis(panels[0].yaxis)
    panels[0].set_ylabel("test mean square error")
    kernels = sorted(set(frame["kernel"]))
    entries = [style.colour_entry(kernel, style.kernel_colour(kernel)) for kernel in kernels]
    entries += [
        (f"ridge {ridge:g}" if ridge else "interpolated", look) for ridge, look in looks.items()
    ]
    style.key(figure, entries)


def _looks(frame: pd.DataFrame) -> dict[float, dict[str, Any]]:
    """Marker and line of each ridge; a solid line interpolates."""
    ridges = [0.0, *sorted(set(frame[_RIDGE]) - {0.0})]
    looks = dict(zip(ridges, itertools.cycle(_LOOKS), strict=False))
    return {
        ridge: {"marker": marker, "linestyle": line}
        for ridge, (marker, line) in looks.items()
        if (frame[_RIDGE] == ridge).any()
    }


def facts(frame: pd.DataFrame) -> list[str]:
    """What the most points have over the fewest, at the highest noise."""
    said = []
    noise = frame["noise"].max()
    for (kernel, ridge), own in frame[frame["noise"] == noise].groupby(["kernel", _RIDGE]):
        ends = own.sort_values("n").iloc[[0, -1]]
        first, last = ends[RUN.test_mse]
        sizes = " to ".join(f"{n:,.0f}" for n in ends["n"])
        which = f"ridge {ridge:g}" if ridge else "interpolated"
        said.append(
            f"{kernel}, {which}, noise {noise:g}: test MSE {first:.3g} to {last:.3g}, n = {sizes}."
        )
    return said


FIGURE = Figure(
    title="Overfitting: test error of interpolation against n",
    shows="Mean square error on test targets, to which no noise was added, of machines that meet noisy training targets exactly, and of those with a ridge; noise is in "
    "standard deviations of the targets, or the share of labels that are replaced.",
    expected="in few dimensions interpolation with the Laplacian kernel or the neural tangent kernel pays for noise by a bounded factor "
    "(tempered), with the Gaussian kernel by one that grows with n (catastrophic); with a ridge it pays ever less.",
    needs=("kernel", "dataset", "n", "noise", _RIDGE, RUN.test_mse),
    point=("dataset", "n", "kernel", "bandwidth", "noise", "solver", _RIDGE),
    one=("dataset", "bandwidth", "solver"),
    table=table,
    draw=draw,
    facts=facts,
    size=lambda frame: (2.2 + 3.1 * frame["noise"].nunique(), 4.2),
)
