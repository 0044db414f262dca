"""Pictures of what is confused most, where inputs are images."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import MISTAKES, RUN
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data, counted


def table(data: Data) -> pd.DataFrame:
    """An image a row: its classes, how often these are confused, its shape, its bytes in base64."""
    shape = data.file.get("shape")
    if shape is None:
        raise ValueError("inputs are no images")
    names = data.file["classes"]
    rows = [
        {
            "true": names[pair["true"]],
            "predicted": names[pair["predicted"]],
            "count": pair["count"],
            "shape": "x".join(map(str, shape)),
            "bytes": image,
        }
        for pair in data.file["pairs"]
        for image in pair["images"]
    ]
    if not rows:
        raise ValueError("nothing is confused")
    return pd.DataFrame(rows).assign(runs=data.shown, source=HERE)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """A row of images for each pair."""
    pairs = list(frame.groupby(["true", "predicted"], sort=False))
    columns = max(len(own) for _, own in pairs)
    axes = figure.subplots(len(pairs), columns, squeeze=False)
    for row, ((true, predicted), own) in zip(axes, pairs, strict=True):
        for ax in row:
            ax.axis("off")
        for ax, shape, text in zip(row, own["shape"], own["bytes"], strict=False):
            pixels = np.frombuffer(base64.b64decode(text), np.uint8)
            ax.imshow(pixels.reshape([int(size) for size in shape.split("x")]), cmap="gray")
        title = f"{true}, taken for {predicted}: {counted(own['count'].iloc[0], 'time')}"
        row[0].set_title(title, loc="left", fontsize=8)


FIGURE = Figure(
    title="What is confused most",
    shows="Test images of the pairs of classes that are confused most, five of each at most.",
    needs=("kernel", "dataset", RUN.test_accuracy),
    point=("run",),
    table=table,
    draw=draw,
    file=MISTAKES,
    general=True,
    size=lambda frame: (5.6, 1.25 * frame.groupby(["true", "predicted"]).ngroups + 0.5),
)
