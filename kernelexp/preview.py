"""``dry_run=true``: what would be run, what it would hold in memory, what would be skipped."""

from __future__ import annotations

import warnings

from kernelexp.console import Preview
from kernelexp.forecast import planned_memory
from kernelexp.jobs import Job
from kernelexp.resume import finished_run
from kernelexp.store import TrackingConfig, experiment_id, find_store


def preview(jobs: list[Job], tracking: TrackingConfig, skips: bool) -> list[Preview]:
    """Look at each job without running it; nothing is read but the store, nothing created.

    ``skips``: whether what the store has already is left out.
    """
    client = find_store(tracking) if skips and tracking.enabled else None
    where = experiment_id(client, tracking) if client is not None else ""
    previews = []
    for job in jobs:
        done = finished_run(client, where, job.identity) if client is not None else None
        c, memory_gb, obstacle = job.checked, None, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plan = planned_memory(c)
            memory_gb = plan.peak_gb if plan is not None else None
        except ValueError as error:
            obstacle = str(error)
        shape = c.dataset.shape()
        previews.append(
            Preview(
                name=job.name,
                summary=" ".join(part.name for part in (c.kernel, c.dataset, c.solver)),
                n_train=shape.n_train if shape is not None else None,
                memory_gb=memory_gb,
                obstacle=obstacle,
                finished=done,
            )
        )
    return previews
