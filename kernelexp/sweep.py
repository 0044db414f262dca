"""A sweep's parent run: made before its jobs start, told how far they are, ended as they ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernelexp.identity import DIGEST_TAG, Identity
from kernelexp.metrics import RUN, SCORES
from kernelexp.resume import Finished, children, end_abandoned, finished_or_awaited, link
from kernelexp.store import TrackingConfig, create_run, experiment_id, open_store
from kernelexp.tracking import PARENT_VARIABLE, VARIED_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOBS_TAG, PROGRESS_TAG, BEST_TAG = "sweep.jobs", "sweep.progress", "sweep.best"
_NOTE_TAG = "mlflow.note.content"  # the description on a run's page
_OF_THE_BEST = (*SCORES, RUN.train_accuracy, RUN.train_r2, RUN.rkhs_norm, RUN.train_seconds)


def start_parent(config: TrackingConfig, name: str, jobs: int, varied: list[str]) -> None:
    """Create the store, the experiment and a sweep's parent run, before any job starts.

    ``jobs``: how many different ones there are. Runs that a killed process left are ended first.
    """
    client = open_store(config)
    end_abandoned(client, experiment_id(client, config))
    tags = {
        **config.tags,
        JOBS_TAG: str(jobs),
        PROGRESS_TAG: f"0/{jobs}",
        VARIED_TAG: " ".join(varied),
    }
    os.environ[PARENT_VARIABLE] = create_run(client, config, config.run_name or name, tags)


@contextmanager
def job(
    config: TrackingConfig,
    identity: Identity,
    rerun: bool,
    waiting: Callable[[str], None],
) -> Iterator[Finished | None]:
    """Around a job: the finished run that makes it superfluous, else None.

    Such a run becomes the sweep's. At the end the parent is told. ``waiting``: see
    ``resume.finished_or_awaited``. Outside sweeps every job is run.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        yield None
        return
    client = open_store(config)
    done = None
    if not rerun:
        where = experiment_id(client, config)
        done = finished_or_awaited(client, where, identity, waiting)
    if done is not None:
        link(client, done.run, parent)
    try:
        yield done
    finally:
        show_progress(client, parent)


def show_progress(client: MlflowClient, parent: str) -> None:
    """Write on the parent run how many jobs have ended: ``12/36``.

    Counted in the store, not carried along: the jobs may end in several processes.
    """
    run = client.get_run(parent)
    outcome = _Outcome(children(client, run.info.experiment_id, parent), run)
    progress = f"{outcome.ended}/{run.data.tags[JOBS_TAG]}"
    client.set_tag(parent, PROGRESS_TAG, progress)
    client.set_tag(parent, _NOTE_TAG, f"{progress} jobs: {outcome}")


def end_parent(interrupted: bool) -> str | None:
    """End the parent of a sweep as its jobs ended; one line of the outcome, None without a sweep."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return None
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(parent)
    end_abandoned(client, run.info.experiment_id)  # workers that were killed
    show_progress(client, parent)
    outcome = _Outcome(children(client, run.info.experiment_id, parent), run)
    jobs = int(run.data.tags[JOBS_TAG])
    for name, value in outcome.metrics().items():
        client.log_metric(parent, name, value)
    if outcome.best is not None:
        best = outcome.best.info
        client.set_tag(parent, BEST_TAG, f"{best.run_name} ({best.run_id})")
    all_finished = len(outcome.finished) == jobs
    client.set_terminated(
        parent, "KILLED" if interrupted else "FINISHED" if all_finished else "FAILED"
    )
    before = f", {outcome.skipped} of them before" if outcome.skipped else ""
    return f"{len(outcome.finished)} of {jobs} jobs finished{before}; sweep {parent}"


class _Outcome:
    """How the jobs of a sweep stand; of several runs of one job the newest counts."""

    def __init__(self, runs: list[Run], parent: Run) -> None:
        newest: dict[str, Run] = {}
        for run in runs:
            newest.setdefault(run.data.tags.get(DIGEST_TAG, run.info.run_id), run)
        states = [(run, run.info.status) for run in newest.values()]
        self.finished = [run for run, status in states if status == "FINISHED"]
        self.failed = sum(status in ("FAILED", "KILLED") for _, status in states)
        self.skipped = sum(run.info.start_time < parent.info.start_time for run in self.finished)
        self.ended = len(self.finished) + self.failed
        scores = [(_score(run), run) for run in self.finished]
        rated = [(score, run) for score, run in scores if score is not None]
        self.best = max(rated, key=lambda pair: pair[0])[1] if rated else None

    def metrics(self) -> dict[str, float]:
        """The totals, and the values of the job with the best test score."""
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
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.best is not None:
            parts.append(f"best {_score(self.best):.4g} ({self.best.info.run_name})")
        return ", ".join(parts)


def _score(run: Run) -> float | None:
    return next((run.data.metrics[name] for name in SCORES if name in run.data.metrics), None)
