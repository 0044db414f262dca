"""One way to refuse a value: what it is called, what it was, what is allowed."""

import math
from collections.abc import Iterable
from typing import Any


def refuse(key: str, value: Any, allowed: str) -> ValueError:
    """The error to raise for a value a person gave: ``key=value: must be allowed``."""
    return ValueError(f"{key}={value}: must be {allowed}")


def one_of(key: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is among ``choices``."""
    names = list(choices)
    if value not in names:
        raise refuse(key, value, "one of " + ", ".join(names))


def number(
    key: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number, low <= value <= high, > ``above``.

    ``whole`` asks for an integer, ``optional`` also allows ``None``.
    """
    if value is None and optional:
        return
    wanted = "a whole number" if whole else "a number"
    if above is not None:
        wanted += f" above {above:g}"
    elif low > -math.inf:
        wanted += f" >= {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
    if above is not None and high < math.inf:
        wanted += f" up to {high:g}"
    if optional:
        wanted += ", or null"
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not abs(value) < math.inf:
        raise refuse(key, value, wanted)
    if not low <= value <= high or (above is not None and value <= above):
        raise refuse(key, value, wanted)
