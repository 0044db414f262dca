"""From runs to the tidy table behind a figure: means over seeds, stops, interpolation in histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

HERE = "here"
OVERFITTED, INTERPOLATED = "overfitted", "interpolated"
# Was to be overfitted, and ended before zero training error.
EARLY = "ended too early"
# What a run was stopped by that got to the training error it was to stop at.
BY_TRAIN_ERROR = "train_error"
# Kinds of centers that are a part of the points.
_PARTS = ("random", "kmeans", "rpcholesky")
# Where a run does not say how many classes there are.
_CLASSES = dict.fromkeys(("digits", "mnist", "fmnist", "kmnist", "cifar10", "svhn"), 10)
_CLASSES |= {"synthetic1": 2, "synthetic2": 2}


@dataclass
class Data:
    """What a figure is made from.

    Attributes:
        runs: see ``store.Runs.frame``.
        history: metrics by epoch, ``run``, ``epoch`` and those that the figure asked for.
        file: what the figure's ``file`` of its only run has.
        notes: what the reader must be told; figures add to it.
    """

    runs: pd.DataFrame
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    file: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The short ids of the runs, as tables have them."""
        return " ".join(sorted(run[:8] for run in self.runs["run"]))

    def keep(self, mask: pd.Series, otherwise: str) -> None:
        """Leave out the other runs, and say why: ``otherwise`` follows "2 runs "."""
        left_out = int((~mask).sum())
        if left_out:
            self.notes.append(f"{counted(left_out, 'run')} {otherwise}; left out")
        self.runs = self.runs[mask]
        if self.runs.empty:
            raise ValueError("no run is left to draw")

    def epochs(self) -> pd.DataFrame:
        """The history with the columns of its runs."""
        own = [c for c in self.runs if c not in self.history or c == "run"]
        return self.history.merge(self.runs[own], on="run")


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def summary(
    frame: pd.DataFrame, by: Sequence[str], values: Sequence[str], source: str = HERE
) -> pd.DataFrame:
    """One row for each combination of ``by``, mean and spread of ``values`` over its runs.

    Columns: ``by``; for each value its mean under its own name, ``_sd`` (empty for one seed),
    ``_min``, ``_max``; ``seeds``, how many; ``runs``, their short ids; ``source``.
    """
    grouped = frame.groupby(list(by), dropna=False, sort=True)
    columns: dict[str, pd.Series] = {}
    for value in values:
        columns[value] = grouped[value].mean()
        columns[f"{value}_sd"] = grouped[value].std(ddof=1)
        columns[f"{value}_min"] = grouped[value].min()
        columns[f"{value}_max"] = grouped[value].max()
    if "seed" in frame:
        columns["seeds"] = grouped["seed"].nunique()
    columns["runs"] = grouped["run"].agg(lambda ids: " ".join(sorted({i[:8] for i in ids})))
    return pd.DataFrame(columns).reset_index().assign(source=source)


def with_paper(table: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The table with the paper's points below; draw them with ``here`` and ``paper``."""
    return pd.concat([table, points], ignore_index=True)


def here(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured."""
    return table[table["source"] == HERE]


def paper(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were read off a paper."""
    return table[table["source"] != HERE]


def with_stop(data: Data) -> None:
    """Add the column ``stop``; leave out runs that have none of the three.

    Overfitted: ``solver.stop.train_error=0``, and the error did get there; ``EARLY`` where it did not.
    Interpolated: solved on all points, without ridge.
    """
    runs = data.runs
    ridge = pd.Series(runs.get("solver.ridge", 0.0), runs.index, dtype=float).fillna(0)
    asked = pd.Series(runs.get("solver.n_centers", np.nan), runs.index, dtype=float)
    # Not by how many they are: of rows that are equal one is a center.
    part = (asked < runs["n"]) | pd.Series(runs.get("solver.centers"), runs.index).isin(_PARTS)
    solved = runs["solver"].isin(["exact", "cg"]) & (ridge == 0) & ~part
    reached = runs["stopped_by"].eq(BY_TRAIN_ERROR)
    stop = np.select([solved, reached], [INTERPOLATED, OVERFITTED], EARLY)
    rule = pd.Series(runs.get("solver.stop.train_error", np.nan), runs.index, dtype=float)
    data.runs = runs.assign(stop=stop)
    data.keep(
        solved | (rule == 0),
        "neither overfitted (solver.stop.train_error=0) nor interpolated (exact, no ridge)",
    )
    others = data.runs[data.runs["stop"] != INTERPOLATED]
    if len(others):
        # Where training stops depends on how it got there.
        newest = others["solver"].iloc[0]
        same = data.runs["stop"].eq(INTERPOLATED) | data.runs["solver"].eq(newest)
        data.keep(same, f"overfitted by another solver than the newest ({newest})")
    early = int(data.runs["stop"].eq(EARLY).sum())
    if early:
        data.notes.append(
            f"{counted(early, 'run')} ended before zero training error, so not overfitted; marked "
            f'"{EARLY}"'
        )


def of_all_seeds(epochs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The epochs that all runs of a group have: a mean beyond is of those alone that had time for more."""
    last = epochs.groupby([*by, "run"], dropna=False)["epoch"].transform("max")
    if by:
        last = last.groupby([epochs[c] for c in by], dropna=False).transform("min")
    return epochs[epochs["epoch"] <= (last if by else last.min())]


def from_then_on(mask: pd.Series) -> pd.Series:
    """Where a mask is true to its end."""
    return mask[::-1].cummin()[::-1]


def epochs_to(epoch: pd.Series, loss: pd.Series, target: float) -> float:
    """When a loss reached its target, in epochs: log-linear between the two epochs around it.

    NaN where it never did; the first epoch, an upper bound, where it was below after that.
    """
    epoch, loss = epoch.to_numpy(float), loss.to_numpy(float)
    reached = np.flatnonzero(loss <= target)
    if not len(reached):
        return float("nan")
    last = reached[0]
    if last == 0:
        return float(epoch[0])
    high, low = np.log(loss[last - 1]), np.log(max(loss[last], np.finfo(float).tiny))
    share = (high - np.log(target)) / (high - low)
    return float(epoch[last - 1] + share * (epoch[last] - epoch[last - 1]))


def n_classes(runs: pd.DataFrame) -> pd.Series:
    """l, by the run where it says so, else by the data set; NaN for a data set not known here."""
    known = runs["dataset"].map(_CLASSES).astype(float)
    if "derived.n_classes" in runs:
        own = pd.to_numeric(runs["derived.n_classes"], errors="coerce")
        return own.where(own.notna(), known)
    return known


def with_noisy_test_labels(
    error: pd.Series | float, noise: pd.Series, classes: pd.Series | float
) -> pd.Series:
    """The error against test labels corrupted as the training labels were: eps (l-1)/l + (1-eps) R.

    R is the error against clean labels; with probability eps a label is drawn uniformly from all l.
    """
    return noise * (classes - 1) / classes + (1 - noise) * error
