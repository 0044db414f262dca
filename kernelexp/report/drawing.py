"""One figure as files and as what the page shows; what Matplotlib complains of is kept."""

from __future__ import annotations

import base64
import io
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kernelexp.report import safe, style
from kernelexp.report.figures import Figure

FORMATS = ("png", "svg", "pdf")
_MIME = {"png": "image/png", "svg": "image/svg+xml"}
# Of a picture file; None leaves the time out, so that the same runs give the same file.
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}
# Characters of the small line below that fit into an inch.
_CHARACTERS_PER_INCH = 19
# The screen of a telephone.
_NARROW_INCHES = 3.3


@dataclass(frozen=True)
class Drawn:
    """A figure that has been drawn.

    Attributes:
        files: its pictures, one for each format.
        embedded: the one for the page, as a data URI.
        key: its legend alone, for narrow screens; empty without one.
        inches: its width.
        complaints: what Matplotlib had to say, a line each.
    """

    files: list[Path]
    embedded: str
    key: str
    inches: float
    complaints: list[str]


def draw(
    figure: Figure,
    table: pd.DataFrame,
    below: str,
    files: Sequence[Path],
    dpi: int,
) -> Drawn:
    """Draw a table into files, whose endings are of ``FORMATS``, and for the page."""
    size = figure.size(table)
    with mpl.rc_context(style.RC), warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        canvas = _canvas(size, ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
        # Of its own, so that the line below does not run into the figure's legend.
        inner = canvas.add_subfigure(canvas.add_gridspec()[0])
        figure.draw(safe.labels(table), inner)
        inner.suptitle(figure.title)
        below = textwrap.fill(safe.escaped(below), int(_CHARACTERS_PER_INCH * size[0]))
        canvas.supxlabel(below, fontsize=6.5, color=style.GREY)
        for path in files:
            canvas.savefig(path, dpi=dpi, metadata=_METADATA[path.suffix[1:]])
        kinds = [path.suffix[1:] for path in files]
        shown = next((kind for kind in kinds if kind in _MIME), "png")
        embedded, key = _embedded(canvas, shown, dpi), _key(inner, shown, dpi)
    return Drawn(list(files), embedded, key, size[0], _said(complaints))


def _canvas(size: tuple[float, float], layout: ConstrainedLayoutEngine | None = None) -> Canvas:
    canvas = Canvas(size, layout=layout)
    FigureCanvasAgg(canvas)
    return canvas


def _embedded(canvas: Canvas, kind: str, dpi: int) -> str:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return f"data:{_MIME[kind]};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _key(inner: SubFigure, kind: str, dpi: int) -> str:
    """The legends of a figure once more, in one column that a narrow screen shows unscaled."""
    handles: list[Artist] = []
    names: list[str] = []
    for legend in [*inner.legends, *(ax.get_legend() for ax in inner.axes)]:
        if legend:
            handles += [handle for handle in legend.legend_handles if handle]
            names += [text.get_text() for text in legend.get_texts()]
    if not names:
        return ""
    canvas = _canvas((_NARROW_INCHES, 0.1 + 0.19 * len(names)))
    canvas.legend(handles, names, loc="center left", borderaxespad=0, handlelength=2.6)
    return _embedded(canvas, kind, dpi)


def _said(complaints: Iterable[warnings.WarningMessage]) -> list[str]:
    """What was complained of, once each; characters that no font has in one line."""
    texts = dict.fromkeys(str(complaint.message) for complaint in complaints)
    missing = {text: re.match(r"Glyph (\d+) ", text) for text in texts}
    characters = "".join(chr(int(found[1])) for found in missing.values() if found)
    said = [text for text, found in missing.items() if not found]
    if characters:
        said.append(
            f"no font here has {characters}, which the picture shows as boxes; installing one of that "
            "script, as Noto Sans CJK, helps"
        )
    return said
