"""How figures look: one colour for a kernel, one marker and line for a solver, everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox, TransformedBbox

from kernelexp.report.frames import EARLY, INTERPOLATED, OVERFITTED
from kernelexp.report.log_ticks import LogLabels, LogTicks, MinorTicks

_COLOURS = list(
    map(str, sns.color_palette("colorblind").as_hex())
)  # told apart with any colour blindness
GREY, BLACK = "#6b6b6b", "#222222"
KERNEL_COLOURS = {
    "laplacian": _COLOURS[0],
    "gaussian": _COLOURS[3],
    "relu_ntk": _COLOURS[2],
    "relu_nngp": _COLOURS[9],
    "cauchy": _COLOURS[4],
    "matern": _COLOURS[1],
    "exponential_power": _COLOURS[5],
    "rational_quadratic": _COLOURS[6],
    "arc_cosine": _COLOURS[7],
    "polynomial": _COLOURS[8],
    "linear": BLACK,
}
SOLVER_STYLES: dict[str, dict[str, Any]] = {
    "eigenpro2": {"marker": "o", "linestyle": "-"},
    "sgd": {"marker": "v", "linestyle": ":"},
    "exact": {"marker": "s", "linestyle": "--"},
    "eigenpro3": {"marker": "D", "linestyle": "-."},
    "eigenpro4": {"marker": "^", "linestyle": "-"},
    "falkon": {"marker": "P", "linestyle": (0, (3, 1, 1, 1, 1, 1))},
    "eigenpro1": {"marker": "<", "linestyle": (0, (5, 1))},
    "cg": {"marker": "X", "linestyle": (0, (1, 1))},
    "askotch": {"marker": "p", "linestyle": (0, (4, 1, 1, 1))},
}
STOP_STYLES: dict[str, dict[str, Any]] = {
    OVERFITTED: {"marker": "o", "linestyle": "-"},
    INTERPOLATED: SOLVER_STYLES["exact"],
    EARLY: {"marker": "x", "linestyle": ":"},
}
_SOLVER_ORDER = dict(zip(SOLVER_STYLES, [0, 7, 3, 2, 1, 4, 5, 9, 6], strict=True))

# For names in scripts that the first font does not have; those that are installed.
_OTHER_SCRIPTS = [
    "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", "Noto Sans CJK KR", "Malgun Gothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
]  # fmt: skip
_INSTALLED = set(font_manager.get_font_names())

RC: dict[str, Any] = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper", font_scale=1.1),
    "font.family": ["sans-serif", *(name for name in _OTHER_SCRIPTS if name in _INSTALLED)],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "svg.hashsalt": "kernelexp",  # the same picture, the same file
}


def kernel_colour(kernel: str) -> str:
    """The kernel's colour; that of an unknown kernel follows from its name."""
    return KERNEL_COLOURS.get(kernel, _COLOURS[zlib.crc32(kernel.encode()) % len(_COLOURS)])


def solver_style(solver: str) -> dict[str, Any]:
    """Marker and line of a solver."""
    return SOLVER_STYLES.get(solver, {"marker": ".", "linestyle": "-"})


def solver_colour(solver: str) -> str:
    """A solver's colour, where all points are of one kernel."""
    return _COLOURS[_SOLVER_ORDER.get(solver, 8)]


def noise_colours(levels: Sequence[float]) -> dict[float, Any]:
    """From dark to light with the noise: read as an order, also in grey."""
    shades = mpl.colormaps["plasma"](np.linspace(0, 0.75, len(levels)))
    return dict(zip(sorted(levels), shades, strict=True))


def mean_and_range(ax: Axes, frame: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """A line through the means with bars from the smallest to the largest value over the seeds."""
    frame = frame.sort_values(x)
    low, high = frame[y] - frame[f"{y}_min"], frame[f"{y}_max"] - frame[y]
    bars = [low.clip(lower=0), high.clip(lower=0)] if (high + low).max() > 0 else None
    ax.errorbar(frame[x], frame[y], bars, capsize=2, elinewidth=1, **style)


def bars(mean: float, low: float, high: float) -> list[list[float]]:
    """What ``errorbar`` takes for one mean, which rounding may put outside of what it is of."""
    return [[max(0.0, mean - low)], [max(0.0, high - mean)]]


def mean_and_band(ax: Axes, frame: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """As ``mean_and_range`` for curves of many points: a band, and markers at some of them."""
    frame = frame.sort_values(x)
    ax.fill_between(
        frame[x],
        frame[f"{y}_min"],
        frame[f"{y}_max"],
        color=style["color"],
        alpha=0.18,
        linewidth=0,
    )
    # At the same distances on a logarithmic axis.
    wanted = np.geomspace(1, len(frame), min(len(frame), 12)).round().astype(int) - 1
    ax.plot(frame[x], frame[y], markevery=sorted(set(wanted.tolist())), **style)


def lifted(frame: pd.DataFrame, y: str) -> pd.DataFrame:
    """With zeros, which a logarithmic axis has no place for, at half of the smallest value above; see ``of_zeros``."""
    above = frame.loc[frame[y] > 0, y]
    floor = above.min() / 2 if len(above) else 0.01
    columns = [c for c in (y, f"{y}_min", f"{y}_max") if c in frame]
    return frame.assign(**frame[columns].clip(lower=floor))


def of_zeros(frame: pd.DataFrame, y: str) -> list[str]:
    """What to say of them; empty where there are none."""
    drawn = "A value of 0 is drawn at half of the smallest other one."
    return [drawn] if (frame[y] == 0).any() else []


def hollow(ax: Axes, x: Any, y: Any, **style: Any) -> None:
    """The paper's points: hollow markers of the shape and colour of ours, joined by a faint line."""
    colour = style.pop("color")
    marker = style.pop("marker", "o")
    style = {"linestyle": ":", "linewidth": 0.8, "alpha": 0.9, **style}
    ax.plot(x, y, color=colour, marker=marker, markersize=6.5, mfc="none", mew=1.2, **style)


def key(
    figure: FigureBase, entries: Sequence[tuple[str, dict[str, Any]]], columns: int = 4
) -> None:
    """One legend for the whole figure, below it."""
    lines = [Line2D([], [], **{"color": GREY, **style}) for _, style in entries]
    figure.legend(
        lines,
        [label for label, _ in entries],
        loc="outside lower center",
        ncols=min(columns, len(entries)),
        columnspacing=1.4,
        handlelength=2.6,
    )


def colour_entry(label: str, colour: Any) -> tuple[str, dict[str, Any]]:
    """A legend entry that explains a colour."""
    return label, {"color": colour, "linewidth": 4, "linestyle": "-", "solid_capstyle": "butt"}


def paper_entry(label: str, **style: Any) -> tuple[str, dict[str, Any]]:
    """A legend entry that explains hollow markers."""
    return label, {
        "marker": "o", "mfc": "none", "markersize": 6.5, "linestyle": ":", "linewidth": 0.8, **style
    }  # fmt: skip


def sources(names: pd.Series) -> str:
    """The papers' names once each, the figures of one paper together: ``X 2018 fig. 2, fig. 3``."""
    places: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        work, mark, place = name.partition(" fig. ")
        places.setdefault(work, []).append(f"{mark}{place}".strip())
    return "; ".join(f"{work} {', '.join(found)}".strip() for work, found in places.items())


def short(value: float, digits: int = 3) -> str:
    """``500``, ``2k``, ``60k``, ``1.5M``; below 10 at most three digits."""
    if abs(value) >= 1e9:
        return f"{value:.0e}"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{unit}"
    return f"{value:.{digits}g}"


def accuracy_axis(axis: Any) -> None:
    """Ends at 100%, beyond which there is nothing; points there are drawn whole, over the edge."""
    axes = axis.axes
    low, high = sorted(getattr(axes, f"get_{axis.axis_name}lim")())
    if high > 100:
        axes.set(**{f"{axis.axis_name}lim": (low, 100)})
        for own in getattr(axes, f"get_shared_{axis.axis_name}_axes")().get_siblings(axes):
            beyond = TransformedBbox(Bbox.from_extents(0, 0, 1.1, 1.1), own.transAxes)
            for artist in [*own.lines, *own.collections]:
                artist.set_clip_box(beyond)


def log_axis(axis: Any, values: Sequence[float] | pd.Series | None = None) -> None:
    """Log scale with plain numbers; ticks at ``values`` where they are few, else at round numbers, see ``log_ticks``."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    at = sorted(set(values)) if values is not None else []
    few = len(at) <= 8 and min((b / a for a, b in pairwise(at)), default=2) >= 1.3
    labels = LogLabels(short)
    size = float(RC[f"{axis.axis_name}tick.labelsize"])
    axis.set_major_locator(LogTicks(at if few else [], labels, size))
    axis.set_major_formatter(labels)
    axis.set_minor_locator(MinorTicks())
    axis.set_minor_formatter(NullFormatter())
