"""``dry_run=true``: what would be run, what it would hold in memory, how long it would take, what would be skipped."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

from kernelexp.console import Preview
from kernelexp.data.fingerprint import are_here
from kernelexp.epochs_before import Before
from kernelexp.forecast import check_sizes, planned_memory, shape_of
from kernelexp.forecast_time import Stopwatch
from kernelexp.jobs import Job
from kernelexp.resume import finished_run
from kernelexp.store import TrackingConfig, experiment_id, find_store


def preview(jobs: list[Job], tracking: TrackingConfig, skips: bool) -> list[Preview]:
    """Look at each job without running it; nothing is created, nor read but the store and data to compare.

    ``skips``: whether what the store has already is left out.
    """
    client = find_store(tracking) if tracking.enabled else None
    where = "" if client is None else experiment_id(client, tracking)

    @cache
    def before() -> Before:
        """Read where a job asks for it."""
        return Before() if client is None else Before.of(client, where)

    stopwatch = Stopwatch(lambda config, n: before()(config, n))
    previews = [_planned(job, stopwatch) for job in jobs]
    if client is None or not skips:
        return previews
    # After all plans: data that are read to be compared are memory of this process.
    done = [finished_run(client, where, job.identity) for job in jobs]
    return [replace(job, finished=run) for job, run in zip(previews, done, strict=True)]


def _planned(job: Job, stopwatch: Stopwatch) -> Preview:
    c, shape, memory_gb, obstacle, seconds = job.checked, None, None, None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = shape_of(c)
            check_sizes([c])
            plan = planned_memory(c)
            seconds = stopwatch.of(c)
        memory_gb = plan.peak_gb if plan is not None else None
    except ValueError as error:
        obstacle = str(error)
    here = are_here(c.dataset, c.data_dir)
    return Preview(
        name=job.name,
        summary=" ".join(part.name for part in (c.kernel, c.dataset, c.solver)),
        n_train=shape.n_train if shape is not None else None,
        memory_gb=memory_gb,
        obstacle=obstacle,
        seconds=seconds,
        absent=None if here else f"{c.dataset.name} (not in data_dir={c.data_dir})",
        finished=None,
    )
