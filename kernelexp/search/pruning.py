"""What a trial leaves for its search, and when it ends early: it is behind half of the others at the same epoch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from kernelexp.metrics import EPOCH, SELECTION, last_attempt

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from kernelexp.experiment import RunResult, Setup

# By which epochs are compared: the larger the better.
_BY = (EPOCH.epoch_valid_accuracy, EPOCH.epoch_valid_r2)
# The first epoch that may be the last, and of how many others there must be scores.
_FIRST_EPOCH, _OTHERS = 2, 2


class Pruned(Exception):
    """A trial has ended early; one line of why."""


@dataclass(frozen=True)
class Trial:
    """What a search tells a trial.

    Attributes:
        partial: it has few of the points.
        bounds: what it must have reached by each epoch, see ``bounds``; empty: nothing.
    """

    partial: bool
    bounds: list[float]

    @classmethod
    def of(cls, given: Any) -> Trial | None:
        """What ``override`` told; None of None.

        Raises:
            ValueError: for anything else, which somebody has typed.
        """
        if given is None:
            return None
        try:
            return cls(given.partial, list(given.bounds))
        except (AttributeError, TypeError) as error:
            raise ValueError(f"trial={given}: must be null; a search sets it by itself") from error

    def override(self) -> str:
        """As a job is told."""
        numbers = ",".join(map(repr, self.bounds))
        return f"trial={{partial:{str(self.partial).lower()},bounds:[{numbers}]}}"


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        metrics: of its run, by their names; empty where it was pruned.
        curve: the best score on validation points so far, by epoch.
        pruned: why it ended early, None where it did not.
    """

    metrics: dict[str, float]
    curve: list[float]
    pruned: str | None = None

    @property
    def score(self) -> float:
        """What it is judged by: the first of ``metrics.SELECTION`` that it has, or its curve's end.

        Raises:
            ValueError: where it has none.
        """
        return self.rank[0]

    @property
    def rank(self) -> tuple[float, float]:
        """The score, and among equal ones less the error; errors as there."""
        if self.pruned is not None:
            return self.curve[-1], 0.0
        for name, error in SELECTION.items():
            if name in self.metrics:
                return self.metrics[name], -self.metrics.get(error, math.inf)
        raise ValueError("no score of held-out points: validation=0.1, cv=5 or solver=ridge_path")


def outcome_of(client: MlflowClient, run: Run) -> Outcome:
    """Of a run that has finished before, from the store."""
    histories = (client.get_metric_history(run.info.run_id, name) for name in _BY)
    history: list[Metric] = next((found for found in histories if found), [])
    values = last_attempt(history).values()
    return Outcome(dict(run.data.metrics), list(itertools.accumulate(values, max)))


def bounds(outcomes: list[Outcome]) -> list[float]:
    """What a trial must have reached by each epoch: the median of those that were trained to their ends.

    The median rule of Golovin et al. 2017, section 3.2.1, with best scores so far on both sides.
    """
    curves = [o.curve for o in outcomes if o.pruned is None and o.curve]
    if len(curves) < _OTHERS:
        return []
    longest = max(map(len, curves))
    return [median(c[min(epoch, len(c) - 1)] for c in curves) for epoch in range(longest)]


@dataclass
class Pruner:
    """An observer of a trial, which raises ``Pruned`` after an epoch that leaves it behind.

    Attributes:
        bounds: see ``bounds``; empty: it only looks.
        curve: the best score so far, by epoch.
    """

    bounds: list[float]
    curve: list[float] = field(default_factory=list)
    _last: int = 0

    def loaded(self) -> None:
        """Nothing to look at yet."""

    def prepared(self, setup: Setup) -> None:
        """The last epoch is known."""
        self._last = setup.max_epochs

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Go on or not."""
        score = next((metrics[name] for name in _BY if name in metrics), None)
        if score is None:
            return
        # After a divergence they begin at 1 again.
        self.curve = self.curve[: number - 1]
        self.curve.append(max([score, *self.curve[-1:]]))
        if not self.bounds or not _FIRST_EPOCH <= number < self._last:
            return
        bound = self.bounds[min(number, len(self.bounds)) - 1]
        if self.curve[-1] < bound:
            raise Pruned(
                f"after epoch {number}: {self.curve[-1]:.4g}, half of the others have {bound:.4g}"
            )

    def finished(self, result: RunResult) -> None:
        """It was not."""
