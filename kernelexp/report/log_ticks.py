"""Ticks and labels of logarithmic axes: three or more that can be read, whatever the range."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator

# First digits of ticks, the roundest first; those after 2 and 5 come in only where there are too few without them.
_STEPS = ((5.0, 2.0), (3.0,), (4.0, 6.0, 8.0, 1.5), (7.0, 2.5, 9.0, 1.2))
# Labels that an axis has at least, how many decades it has at most, and how many ticks are enough without 2 and 5.
_LEAST, _DECADES, _ENOUGH = 3, 6, 4
# Minor ticks that an axis has at least, if it does not span a thousandth alone.
_MINOR = 8
# Up to this factor equal distances serve where round first digits do not.
_LINEAR = 3.0
# Below, labels are powers of ten.
_POWERS = 1e-4
# Of a label's font size: its height and the width of a character, each with the space around it.
_HEIGHT, _CHARACTER, _BETWEEN = 1.5, 0.6, 0.6


class LogTicks(LogLocator):
    """Major ticks, chosen when the axis is drawn: at ``wanted`` values first, then at round ones that do not collide.

    Args:
        wanted: where the points are, if they are few.
        labels: their texts.
        size: of the labels, in points.
    """

    def __init__(self, wanted: Sequence[float], labels: LogLabels, size: float) -> None:
        super().__init__()
        self.wanted, self.labels, self.size = wanted, labels, size

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Ticks from ``vmin`` to ``vmax``, three or more of them among the points."""
        low, high = sorted((vmin, vmax))
        inner = self._points(low, high)
        chosen: list[float] = []

        def among(ticks: Sequence[float]) -> int:
            return sum(inner[0] <= value <= inner[1] for value in ticks)

        for step, group in enumerate(self._groups(low, high)):
            clear = [*chosen]
            seen = [value for value in group if low <= value <= high]
            for value in seen:
                if self._fits(value, clear, low, high):
                    clear.append(value)
            # Where there are enough without it, a part of a group would be an odd sight.
            if among(chosen) < _LEAST or len(clear) == len(chosen) + len(seen):
                chosen = clear
            enough = _ENOUGH if step == 1 and not self.wanted else _LEAST
            if among(chosen) >= enough:
                break
        else:
            if high / low < _LINEAR:
                chosen = max(
                    self._close(low, high, inner), key=lambda ticks: min(among(ticks), _LEAST)
                )
        return np.array(sorted(chosen))

    def _close(self, low: float, high: float, inner: tuple[float, float]) -> Iterable[list[float]]:
        """Sets of ticks where points span a small factor: at equal distances, three or more where they have room."""
        for parts in range(4, 16):
            ticks: Any = MaxNLocator(parts, steps=[1, 2, 5, 10]).tick_values(*inner)
            clear: list[float] = []
            for value in ticks[(inner[0] <= ticks) & (ticks <= inner[1])]:
                if self._fits(value, clear, low, high):
                    clear.append(float(value))
            yield clear

    def _points(self, low: float, high: float) -> tuple[float, float]:
        """Where the points are of what is seen; all of it where they are one point, or not known."""
        first, last = sorted(self.axis.get_data_interval()) if self.axis else (low, high)
        first, last = max(first, low), min(last, high)
        # Rounding must not leave out a tick at the first or the last point.
        return (first * (1 - 1e-9), last * (1 + 1e-9)) if first < last else (low, high)

    def _groups(self, low: float, high: float) -> Iterable[Iterable[float]]:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        yield self.wanted
        stride = max(1, math.ceil((last - first) / _DECADES))
        yield (10.0**k for k in range(first - first % stride, last + 1, stride))
        for steps in _STEPS if stride == 1 else ():
            yield [float(f"{step}e{k}") for k in range(first, last + 1) for step in steps]

    def _fits(self, value: float, others: Sequence[float], low: float, high: float) -> bool:
        """Whether its label is clear of the others'."""
        axis: Any = self.axis
        if axis is None:
            return True
        axes = axis.axes
        box = axes.bbox.transformed(axes.get_figure(root=False).dpi_scale_trans.inverted())
        upright = axis.axis_name == "y"
        points = 72 * (box.height if upright else box.width) / math.log(high / low)

        def extent(tick: float) -> float:
            text = self.labels.format_ticks([tick])[0]
            seen = re.sub(r"\\cdot|[${}^]", "", text)
            return _HEIGHT if upright else _CHARACTER * len(seen) + _BETWEEN

        return all(
            points * abs(math.log(value / other)) >= self.size * (extent(value) + extent(other)) / 2
            for other in others
        )


class MinorTicks(LogLocator):
    """Ticks without labels, which show that an axis is logarithmic: at 1, 2, 3, ..., or between those where they are few."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Those from ``vmin`` to ``vmax``; the decades alone where there are many."""
        low, high = sorted((vmin, vmax))
        decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        if len(decades) > 2 * _DECADES:
            return decades
        for parts in (1, 2, 10, 20, 100, 200):
            ticks = np.outer(decades, np.arange(parts, 10 * parts) / parts).ravel()
            ticks = ticks[(low <= ticks) & (ticks <= high)]
            if len(ticks) >= _MINOR:
                break
        return ticks


class LogLabels(Formatter):
    """Plain numbers with as many digits as tell them apart; powers of ten on an axis of small ones.

    Args:
        plain: the text of a number with so many digits.
    """

    def __init__(self, plain: Callable[[float, int], str]) -> None:
        self.plain = plain

    def __call__(self, value: float, pos: int | None = None) -> str:
        """The label of one tick."""
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Any) -> list[str]:
        """The labels of all ticks."""
        low = min(self.axis.get_view_interval()) if self.axis else min(values, default=1)
        if low <= _POWERS:
            return [_power(value) for value in values]
        texts: list[str] = []
        for digits in range(3, 8):
            texts = [self.plain(value, digits) for value in values]
            if len(set(texts)) == len(texts):
                break
        return texts


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if float(mantissa) == 1 else f"${float(mantissa):g}\\cdot{power}$"
