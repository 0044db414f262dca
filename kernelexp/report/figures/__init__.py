"""One figure a file: a table from runs, a drawing of the table, and a declaration of both."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import FigureBase

from kernelexp.report.frames import Data


def _none(table: pd.DataFrame) -> list[str]:
    return []


@dataclass(frozen=True)
class Claim:
    """A paper's points in a figure's table, to be held against those measured here.

    Attributes:
        value: the column.
        tolerance: the largest |here / paper - 1| that counts as agreement: what reading it off a picture, the spread over
            seeds and settings that the paper leaves open allow.
        absolute: it is of |here - paper|, as where the error of reading is a part of an axis.
    """

    value: str
    tolerance: float
    absolute: bool = False


@dataclass(frozen=True)
class Figure:
    """The declaration of a figure; each module here has one as ``FIGURE``.

    Attributes:
        title: above the picture.
        shows: one or two sentences on what is drawn.
        needs: columns without which a run is left out.
        point: columns that tell points apart; runs of one point should differ in nothing but the seed.
        one: columns of which a picture shows one value, that of the newest run; ``scale`` always is. A bandwidth is one for
            each kernel and data set, n for each data set.
        table: the tidy table behind the picture, from the runs; raises ValueError where it cannot.
        draw: the picture, from that table alone.
        history: metrics wanted by epoch.
        expected: what papers or theory say, which the page shows as an expectation; empty: nothing.
        facts: what came out: sentences for the caption, computed from the table.
        extra: further tables, by the end of their file names.
        size: width and height in inches, from the table.
        experiment: whose runs it shows; empty: the experiment of its own name.
        file: of a run, which is then the only one it shows: the best by held-out points, or else the newest.
        claim: what of its table is a paper's claim; None: nothing is.
        general: whether it is also drawn, where it can be, for experiments without a figure of their name.
    """

    title: str
    shows: str
    needs: tuple[str, ...]
    point: tuple[str, ...]
    table: Callable[[Data], pd.DataFrame]
    draw: Callable[[pd.DataFrame, FigureBase], None]
    history: tuple[str, ...] = ()
    expected: str = ""
    facts: Callable[[pd.DataFrame], list[str]] = _none
    one: tuple[str, ...] = ()
    extra: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = field(default_factory=dict)
    size: Callable[[pd.DataFrame], tuple[float, float]] = lambda table: (6.4, 4.4)
    experiment: str = ""
    file: str = ""
    claim: Claim | None = None
    general: bool = False


def discover(complaints: list[str] | None = None) -> dict[str, Figure]:
    """The figures by the names of their files.

    ``complaints``: gets a line for each file that is no figure; without it its error is raised.
    """
    found = {}
    for info in pkgutil.iter_modules(__path__, __name__ + "."):
        name = info.name.rpartition(".")[2]
        try:
            found[name] = importlib.import_module(info.name).FIGURE
        except Exception as error:  # a figure is anybody's code
            if complaints is None:
                raise
            complaints.append(f"figures/{name}.py: left out: {type(error).__name__}: {error}")
    return dict(sorted(found.items()))
