"""How the jobs of a sweep have ended, and which of them is the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kernelexp.identity import DIGEST_TAG, data_sets
from kernelexp.metrics import RUN, SCORES, SELECTION
from kernelexp.resume import PARTIAL_TAG, PRUNED_TAG
from kernelexp.store.delivery import RESUMED_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

_OF_THE_BEST = (
    *SELECTION,
    *SCORES,
    RUN.train_accuracy,
    RUN.train_r2,
    RUN.rkhs_norm,
    RUN.train_seconds,
)


class SweepOutcome:
    """How the jobs of a sweep stand; of several runs of one job the newest counts."""

    def __init__(self, runs: list[Run], parent: Run) -> None:
        newest: dict[str, Run] = {}
        for run in runs:
            newest.setdefault(run.data.tags.get(DIGEST_TAG, run.info.run_id), run)
        states = [(run, run.info.status) for run in newest.values()]
        self.finished = [run for run, status in states if status == "FINISHED"]
        self.pruned = sum(
            PRUNED_TAG in run.data.tags for run, status in states if status == "KILLED"
        )
        self.failed = sum(status in ("FAILED", "KILLED") for _, status in states) - self.pruned
        self.skipped = sum(_is_older(run, parent) for run in self.finished)
        self.ended = len(self.finished) + self.pruned + self.failed
        there = {name for run in self.finished for name in run.data.metrics}
        # What the best is chosen by; never test points.
        self.by = next((name for name in SELECTION if name in there), "")
        # Trials of a search on few points are not compared with those on all.
        whole = [run for run in self.finished if PARTIAL_TAG not in run.data.tags]
        rated = [run for run in whole if self.by in run.data.metrics]
        # Scores on different data are not compared.
        self.best = max(rated, key=self._rank, default=None) if len(data_sets(rated)) == 1 else None

    def _rank(self, run: Run) -> tuple[float, float]:
        found = run.data.metrics
        return found[self.by], -found.get(SELECTION[self.by], math.inf)

    def metrics(self) -> dict[str, float]:
        """The totals, and the values of the job that validation points choose, if there are any."""
        seconds = (RUN.setup_seconds, RUN.train_seconds)
        totals = {
            "jobs_finished": float(len(self.finished)),
            "jobs_skipped": float(self.skipped),
            "jobs_failed": float(self.failed),
            "total_seconds": sum(
                run.data.metrics.get(name, 0.0) for run in self.finished for name in seconds
            ),
        }
        best = self.best.data.metrics if self.best is not None else {}
        return {**totals, **{f"best_{name}": best[name] for name in _OF_THE_BEST if name in best}}

    def __str__(self) -> str:
        parts = [f"{len(self.finished)} finished"]
        parts += [f"{self.skipped} of them before"] if self.skipped else []
        parts += [f"{self.pruned} pruned"] if self.pruned else []
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.best is not None:
            parts.append(self.choice)
        return ", ".join(parts)

    @property
    def choice(self) -> str:
        """The best and what by."""
        assert self.best is not None
        value = self.best.data.metrics[self.by]
        return f"best {self.best.info.run_name}, {self.by.replace('_', ' ')} {value:.4g}"


def _is_older(run: Run, parent: Run) -> bool:
    """Whether a job was there before its sweep began, and not only its first part."""
    since = parent.info.start_time
    gone_on = RESUMED_TAG in run.data.tags and (run.info.end_time or since) >= since
    return run.info.start_time < since and not gone_on
