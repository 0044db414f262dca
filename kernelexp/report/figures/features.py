"""What a recursive feature machine has learned: the diagonal of M, as an image where inputs are images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import FEATURES
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data

# Bars, of the largest entries, and eigenvectors that are drawn.
_BARS, _VECTORS = 20, 3


def table(data: Data) -> pd.DataFrame:
    """A row for each coordinate: the diagonal of M and the entries of its largest eigenvectors."""
    file = data.file
    d = len(file["diagonal"])
    names = file["names"] or [f"x{i}" for i in range(d)]
    frame = pd.DataFrame({"coordinate": names, "place": range(d), "diagonal": file["diagonal"]})
    for i, vector in enumerate(file["eigenvectors"][:_VECTORS], 1):
        frame[f"eigenvector_{i}"] = vector
    shape = "" if file["shape"] is None else "x".join(map(str, file["shape"]))
    share = (
        file["eigenvalues"][0] / max(sum(file["diagonal"]), 1e-300) if file["eigenvalues"] else None
    )
    return frame.assign(shape=shape, first_share=share, runs=data.shown, source=HERE)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Images, or bars of the largest entries."""
    shape = frame["shape"].iloc[0]
    if not shape:
        ax = figure.subplots()
        own = frame.nlargest(_BARS, "diagonal")
        ax.bar(range(len(own)), own["diagonal"], color=style.GREY)
        ax.set_xticks(range(len(own)), own["coordinate"], rotation=60, ha="right")
        ax.set_ylabel("diagonal of M")
        return
    sizes = [int(size) for size in shape.split("x")]
    columns = ["diagonal", *(c for c in frame if c.startswith("eigenvector_"))]
    for ax, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        image = frame[column].to_numpy().reshape(sizes)
        image = image.mean(2) if image.ndim == 3 else image
        if column == "diagonal":
            ax.imshow(image, cmap="viridis")
        else:
            most = np.abs(image).max()
            ax.imshow(image, cmap="RdBu", vmin=-most, vmax=most)
        ax.set_title(column.replace("_", " "), fontsize=9)
        ax.axis("off")


def facts(frame: pd.DataFrame) -> list[str]:
    """The coordinates that count most."""
    most = frame.nlargest(5, "diagonal")
    said = ", ".join(
        f"{c} {v:.3g}" for c, v in zip(most["coordinate"], most["diagonal"], strict=True)
    )
    share = 100 * frame["first_share"].astype(float).iloc[0]
    first = "" if np.isnan(share) else f"The first eigenvector has {share:.0f}% of the trace."
    return [f"Largest entries: {said}.", first]


FIGURE = Figure(
    title="What was learned of the coordinates",
    shows="M of the kernel k(M^(1/2) x, M^(1/2) z) that the run which is best on held-out points or, without any, the newest has learned: its "
    "diagonal, and of images its largest eigenvectors where all of M was learned.",
    needs=("kernel", "dataset", "solver.agop_power"),
    point=("run",),
    table=table,
    draw=draw,
    facts=facts,
    file=FEATURES,
    general=True,
    size=lambda frame: (8.4, 2.7) if frame["shape"].iloc[0] else (6.4, 3.8),
)
