"""What a person sees of a run: the memory plan, a progress bar, one small table."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kernelexp.current_sweep import told
from kernelexp.metrics import EPOCH, RUN, SELECTION

if TYPE_CHECKING:
    from kernelexp.experiment import RunResult, Setup
    from kernelexp.forecast_time import Seconds
    from kernelexp.resume import Finished
    from kernelexp.tracking import Tracker


# The keys that a sweep varies, for the jobs it starts in this process and in others.
VARIED_VARIABLE = "KERNELEXP_VARIED"
# What is shown of the quantities a solver derived, and in the table at the end; not all have all.
_CHOSEN = {
    RUN.n_centers: "centers",
    RUN.batch_size: "batch",
    RUN.q: "q",
    "step_size": "step",
    "projection_interval": "projection every",
}
_WIDE = 160  # a table in a file or a pipe
# Scores, and mean and spread over folds.
_OF_CLASSES = (
    RUN.train_accuracy, RUN.valid_accuracy, RUN.test_accuracy, RUN.cv_accuracy, RUN.cv_accuracy_spread,
)  # fmt: skip
_OF_TARGETS = (RUN.train_r2, RUN.valid_r2, RUN.test_r2, RUN.cv_r2, RUN.cv_r2_spread)
_STARS = {RUN.m_star: "m*", RUN.m_star_adapted: "adapted m*"}
_COUNTS = {
    RUN.n_centers: "centers",
    RUN.batch_size: "batch",
    RUN.q: "q",
}


def title(overrides: list[str]) -> str | None:
    """What a job of a sweep varies, ``noise=0.1``; None outside sweeps."""
    varied = os.environ.get(VARIED_VARIABLE, "").split()
    return told(overrides, varied) or None


class Terminal:
    """An observer of ``kernelexp.experiment.run``; the progress bar shows on terminals only.

    It comes before the store in the list of observers: a result is shown whatever becomes of the store.
    """

    def __init__(self, tracker: Tracker | None, title: str | None = None) -> None:
        """``tracker``: whose run id the table shows, where it is known by then; ``title``: above it."""
        self.tracker = tracker
        self.title = title
        self.last = 0  # epoch
        self.console = _console()
        self.progress = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )

    def loaded(self) -> None:
        """Nothing to show yet."""

    def prepared(self, setup: Setup) -> None:
        """Show the plan, start the bar."""
        train = setup.dataset.train
        chosen = [
            f"{label} {_short(setup.derived[k])}"
            for k, label in _CHOSEN.items()
            if k in setup.derived
        ]
        self.console.print(
            f"{setup.dataset.name}: {len(train.X):,} x {train.X.shape[1]}, {setup.dataset.task}, on {setup.device_name}; "
            f"memory {setup.plan}" + (f"; {', '.join(chosen)}" if chosen else ""),
            soft_wrap=True,
        )
        if setup.reason is not None:
            self.console.print(f"solver=auto: {setup.reason}", soft_wrap=True)
        if setup.start is not None:
            self.console.print(str(setup.start), soft_wrap=True)
        self.progress.start()
        self.task = self.progress.add_task("", total=setup.max_epochs)

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Move the bar."""
        self.last = number
        shown = (
            EPOCH.epoch_train_mse,
            EPOCH.epoch_valid_mse,
            EPOCH.epoch_test_accuracy,
            EPOCH.epoch_test_r2,
        )
        text = ", ".join(
            f"{name.removeprefix('epoch_').replace('_', ' ')} {metrics[name]:.4g}"
            for name in shown
            if name in metrics
        )
        self.progress.update(self.task, completed=number, description=text)

    def finished(self, result: RunResult) -> None:
        """Show the table."""
        self.close()
        m, setup = result.metrics, result.setup
        classifies = RUN.test_accuracy in m
        *scores, mean, spread = _OF_CLASSES if classifies else _OF_TARGETS
        scale = 100 if classifies else 1
        # Theirs that it was compared with, as svm_test_accuracy.
        score = RUN.test_accuracy if classifies else RUN.test_r2
        scores += [name for name in m if name.endswith(f"_{score}")]
        best = f"the best of {self.last}; " if m[RUN.epochs] < self.last else ""
        predicted = (RUN.test_mse, RUN.predicted_test_mse) if RUN.predicted_test_mse in m else ()
        rows = {
            "kernel": str(setup.kernel),
            "dataset": setup.dataset.name,
            "n": f"{len(setup.dataset.train.X):,}",
            **{s: f"{m[k]:,.{0 if m[k] >= 100 else 2}f}" for k, s in _STARS.items() if k in m},
            **{label: f"{m[name]:,.0f}" for name, label in _COUNTS.items() if name in m},
            "epochs": f"{m[RUN.epochs]:.0f} ({best}stopped by {result.stopped_by})",
            "seconds": f"{m[RUN.setup_seconds]:.2f} set-up, {m[RUN.train_seconds]:.2f} training",
            **{name.replace("_", " "): f"{scale * m[name]:.2f}" for name in scores if name in m},
            **(
                {mean.replace("_", " "): f"{scale * m[mean]:.2f} +- {scale * m[spread]:.2f}"}
                if mean in m
                else {}
            ),
            **{name.replace("_", " "): f"{m[name]:.4g}" for name in predicted},
            "RKHS norm": _norm(result),
            **{
                name.replace("_", " "): f"{m[name]:.2g}"
                for name in (RUN.ridge, RUN.relative_residual, RUN.projection_residual)
                if name in m
            },
            "peak memory": f"{m[RUN.peak_memory_gb]:.2f} GB",
        }
        if self.tracker is not None and (run_id := self.tracker.run_id) is not None:
            rows["run id"] = run_id
        table = Table(show_header=False, title=self.title)
        for name, value in rows.items():
            table.add_row(name.replace("accuracy", "accuracy %"), value)
        self.console.print(table)
        if result.warning is not None:
            self.console.print(f"warning: {result.warning}", style="bold red", soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


class TrialTerminal:
    """An observer of a trial of a search, which has one line; see ``Terminal``."""

    def __init__(self, title: str | None) -> None:
        self.title = title
        self.console = _console()

    def loaded(self) -> None:
        """Nothing to show."""

    def prepared(self, setup: Setup) -> None:
        """The same."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """The same."""

    def finished(self, result: RunResult) -> None:
        """What it is judged by, its points, its time."""
        m, n = result.metrics, len(result.setup.dataset.train.X)
        name = next((name for name in SELECTION if name in m), RUN.train_mse)
        seconds = m[RUN.setup_seconds] + m[RUN.train_seconds]
        score = f"{name.replace('_', ' ')} {m[name]:.4f}"
        self.console.print(f"{self.title}: {score}, {n:,} points, {seconds:.2f} s", soft_wrap=True)

    def close(self) -> None:
        """Nothing to take away."""


def _console(width: int | None = None) -> Console:
    """Prints what it is given: brackets in names are no markup, colons no emoji."""
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _norm(result: RunResult) -> str:
    norm = result.norm
    kind = "a lower bound, the system is not solved" if norm.lower_bound else norm.how
    known = math.isfinite(norm.relative_error)
    error = f"about {norm.relative_error:.1g}" if known else "not known"
    return f"{norm.value:.2f} ({kind}; relative error {error})"


@dataclass(frozen=True)
class Preview:
    """A job before it runs.

    Attributes:
        name: what it varies within its sweep.
        summary: kernel, data set and solver.
        n_train: training points, None where they are not known yet.
        memory_gb: what it would hold, None where that is not known.
        obstacle: why it cannot run; None where it can.
        seconds: how long it would take; None where that is not known.
        absent: data that would be downloaded first; None where they are here.
        finished: the run that makes it superfluous.
    """

    name: str
    summary: str
    n_train: int | None
    memory_gb: float | None
    obstacle: str | None
    seconds: Seconds | None
    absent: str | None
    finished: Finished | None


def show_jobs(jobs: list[Preview]) -> None:
    """The table of a dry run."""
    console = _console()
    if not console.is_terminal:
        console = _console(_WIDE)
    table = Table("", "job", "n", "memory GB", "time", "")
    for number, job in enumerate(jobs, 1):
        done = _skipped(job.finished) if job.finished is not None else None
        table.add_row(
            str(number),
            job.name or job.summary,
            "?" if job.n_train is None else f"{job.n_train:,}",
            "?" if job.memory_gb is None else f"{job.memory_gb:.2f}",
            "" if done or job.obstacle else _time(job.seconds),
            done or job.obstacle or "to run",
        )
    console.print(table)
    runnable = [job for job in jobs if job.finished is None and job.obstacle is None]
    skipped = sum(job.finished is not None for job in jobs)
    refused = len(jobs) - skipped - len(runnable)
    parts = [f"{len(runnable)} to run"]
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{refused} that cannot run"] if refused else []
    noun, together = "job" if len(jobs) == 1 else "jobs", _together([j.seconds for j in runnable])
    console.print(
        f"{len(jobs)} {noun}: {', '.join(parts)}{together}. Memory is what each needs; kernel rows kept for speed "
        "come on top, as far as there is room.",
        soft_wrap=True,
    )
    absent = dict.fromkeys(job.absent for job in runnable if job.absent)
    if absent:
        console.print(f"To be downloaded first: {', '.join(absent)}.", soft_wrap=True)


def _together(times: list[Seconds | None]) -> str:
    """How long all of it takes, one job after the other, and what of that is not known."""
    total = sum(each.total for each in times if each is not None)
    unsure = sum(each is None or not each.known for each in times)
    said = f", {_duration(total)} one after the other" if total else ""
    return f"{said} ({unsure} of them marked ~ or ?: not known before)" if unsure else said


def _time(forecast: Seconds | None) -> str:
    return "?" if forecast is None else ("" if forecast.known else "~") + _duration(forecast.total)


def _duration(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def show_skipped(overrides: str, done: Finished) -> None:
    """Say of a job of a sweep that it is there already."""
    _console().print(f"{overrides}: {_skipped(done)}", soft_wrap=True)


def show_pruned(overrides: str, why: object) -> None:
    """Say of a trial of a search that it has ended early."""
    _console().print(f"{overrides}: pruned {why}", soft_wrap=True)


def _skipped(done: Finished) -> str:
    note = f" ({done.note}; rerun=true runs it again)" if done.note else ""
    return f"skipped, run {done.run_id} has it{note}"


def show_waiting(overrides: str, who: str) -> None:
    """Say of a job of a sweep who else is at it."""
    _console().print(
        f"{overrides}: another process is at it, {who}; waiting for that",
        soft_wrap=True,
    )
