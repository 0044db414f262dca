"""Training points that are held out, so that something can be chosen by them: a share, a number, a fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kernelexp.engine.checks import refuse


@dataclass(frozen=True)
class Fold:
    """One of several parts of the training points, each of which is held out once.

    Attributes:
        index: which, from 0.
        count: of how many.
    """

    index: int
    count: int


# A share below 1, a number of points, or one fold.
HeldOut: TypeAlias = float | int | Fold


def check_held_out(key: str, wanted: float | int) -> None:
    """Refuse what is neither a share nor a number; ``key``: what a message calls it.

    Raises:
        ValueError: in one line.
    """
    whole = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 1
    if not whole and not (isinstance(wanted, float) and 0 < wanted < 1):
        raise refuse(key, wanted, "a share between 0 and 1, or a whole number of points")


def held_out_count(wanted: float | int, n: int, key: str) -> int:
    """How many of n points a share or a number is, where groups do not make them more; ``key``: what a message calls it.

    Raises:
        ValueError: where fewer than two stay.
    """
    count = max(1, round(wanted * n)) if wanted < 1 else int(wanted)
    if count > n - 2:
        raise refuse(key, wanted, f"at most {max(n - 2, 0)} of {n} points")
    return count


def held_out(
    wanted: HeldOut,
    n: int,
    rng: np.random.Generator,
    *,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    key: str = "validation",
) -> np.ndarray:
    """Which of n points are held out, (n,), truth values; at least one, and two stay.

    Drawn at random: of labels (n,) each has its share, up to one point; groups (n,) are held out as wholes, until there
    are enough points. Of times (n,) the latest are. ``key``: what a message calls ``wanted``.

    Raises:
        ValueError: for more points than there are, or folds of times.
    """
    if isinstance(wanted, Fold):
        return _fold(wanted, n, rng, labels, groups, times)
    count = held_out_count(wanted, n, key)
    if times is not None:
        return _marked(np.argsort(times, kind="stable")[n - count :], n)
    if groups is not None:
        names, sizes = np.unique(groups, return_counts=True)
        each = rng.permutation(names)
        reached = np.cumsum(sizes[np.searchsorted(names, each)])
        held = np.isin(groups, each[: int(np.searchsorted(reached, count)) + 1])
        if n - held.sum() < 2:
            raise refuse(key, wanted, f"less: {len(each)} groups leave no other points")
        return held
    # Evenly spaced over the sorted labels, so each class gives as many as its share is.
    return _marked(_order(n, rng, labels)[((np.arange(count) + 0.5) * n / count).astype(int)], n)


def _fold(
    fold: Fold,
    n: int,
    rng: np.random.Generator,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    times: np.ndarray | None,
) -> np.ndarray:
    if times is not None:
        raise refuse("cv", fold.count, "null with times: validation=0.1 holds the latest out")
    if groups is not None:
        each = rng.permutation(np.unique(groups))
        if fold.count > len(each):
            raise refuse("cv", fold.count, f"at most the {len(each)} groups of training points")
        return np.isin(groups, each[fold.index :: fold.count])
    if fold.count > n:
        raise refuse("cv", fold.count, f"at most the {n} training points")
    return _marked(_order(n, rng, labels)[fold.index :: fold.count], n)


def _order(n: int, rng: np.random.Generator, labels: np.ndarray | None) -> np.ndarray:
    """All points, drawn; with labels class by class."""
    order = rng.permutation(n)
    return order if labels is None else order[np.argsort(labels[order], kind="stable")]


def _marked(rows: np.ndarray, n: int) -> np.ndarray:
    marks = np.zeros(n, bool)
    marks[rows] = True
    return marks
