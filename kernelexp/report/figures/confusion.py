"""Which class is taken for which, on the test points of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.metrics import MISTAKES, RUN
from kernelexp.report import style
from kernelexp.report.figures import Figure
from kernelexp.report.frames import HERE, Data, counted

# With more classes the numbers in the cells cannot be read, and of those only the ones that are confused most are shown.
_NUMBERED, _SHOWN = 16, 40


def table(data: Data) -> pd.DataFrame:
    """How often each class is taken for each: counts, and shares of the points of the true class."""
    if "counts" not in data.file:
        raise ValueError("the run has no classes; the figure residuals shows it")
    names = data.file["classes"]
    frame = pd.DataFrame(data.file["counts"], columns=["i", "j", "count"])
    frame["share"] = frame["count"] / frame.groupby("i")["count"].transform("sum")
    named = {
        "true": frame["i"].map(names.__getitem__),
        "predicted": frame["j"].map(names.__getitem__),
    }
    return pd.DataFrame({**named, **frame}).assign(runs=data.shown, source=HERE)


def draw(frame: pd.DataFrame, figure: FigureBase) -> None:
    """Rows: true classes; columns: predicted ones; colour: share of the row, but of the diagonal, which is right."""
    ax = figure.subplots()
    wrong = frame[frame["i"] != frame["j"]]
    by_class = (
        wrong.groupby("i")["count"].sum().add(wrong.groupby("j")["count"].sum(), fill_value=0)
    )
    names = {**dict(zip(frame["j"], frame["predicted"], strict=True)),
             **dict(zip(frame["i"], frame["true"], strict=True))}  # fmt: skip
    shown = sorted(names)
    if len(shown) > _SHOWN:
        shown = sorted(by_class.nlargest(_SHOWN).index)
    place = {number: k for k, number in enumerate(shown)}
    shares = np.full((len(shown), len(shown)), np.nan)
    for i, j, count, share in zip(
        frame["i"], frame["j"], frame["count"], frame["share"], strict=True
    ):
        if i not in place or j not in place:
            continue
        if i != j:
            shares[place[i], place[j]] = 100 * share
        if len(shown) <= _NUMBERED:
            ax.text(place[j], place[i], f"{count:,}", ha="center", va="center", fontsize=7,
                    color=style.GREY if i == j else style.BLACK)  # fmt: skip
    most = np.nanmax(shares, initial=0)
    drawn = ax.imshow(shares, cmap="Oranges", vmin=0, vmax=1.6 * most or 1)
    if most:
        figure.colorbar(drawn, ax=ax, label="of the true class, wrong (%)", shrink=0.8)
    labels = [names[number] for number in shown]
    ax.set_xticks(range(len(shown)), labels, rotation=45 if max(map(len, labels)) > 2 else 0)
    ax.set_yticks(range(len(shown)), labels)
    ax.grid(False)
    ax.set(xlabel="predicted", ylabel="true")


def facts(frame: pd.DataFrame) -> list[str]:
    """How many are right, and the pair that is confused most."""
    wrong = frame[frame["i"] != frame["j"]]
    total, errors = frame["count"].sum(), wrong["count"].sum()
    said = [f"{total - errors:,} of {total:,} test points are right."]
    if errors:
        most = wrong.loc[wrong["count"].idxmax()]
        said.append(
            f"Most often {most['true']} is taken for {most['predicted']}: {counted(most['count'], 'time')}, "
            f"{100 * most['share']:.1f}% of its points."
        )
    return said


def classes(frame: pd.DataFrame) -> pd.DataFrame:
    """Points, recall and precision of each class, in percent, and what it is taken for most."""
    rows = []
    for i, own in frame.groupby("i"):
        right = own.loc[own["j"] == i, "count"].sum()
        taken = frame.loc[frame["j"] == i, "count"].sum()
        others = own[own["j"] != i]
        most = "" if others.empty else others.loc[others["count"].idxmax(), "predicted"]
        rows.append(
            {
                "class": own["true"].iloc[0],
                "points": own["count"].sum(),
                "recall": 100 * right / own["count"].sum(),
                "precision": 100 * right / taken if taken else float("nan"),
                "taken for": most,
            }
        )
    return pd.DataFrame(rows)


FIGURE = Figure(
    title="Which class is taken for which",
    shows="Test points by true and predicted class, of the run that is best on held-out points or, without any, of the newest. Recall: the "
    "share of a class's points that are found; precision: the share of points so called that are right.",
    needs=("kernel", "dataset", RUN.test_accuracy),
    point=("run",),
    table=table,
    draw=draw,
    facts=facts,
    extra={"classes": classes},
    file=MISTAKES,
    general=True,
    size=lambda frame: (6.6, 5.4),
)
