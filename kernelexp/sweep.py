"""A sweep's parent run: made before its jobs start, ended as they ended."""

from __future__ import annotations

import os

from kernelexp.tracking import (
    PARENT_VARIABLE,
    VARIED_TAG,
    TrackingConfig,
    create_run,
    open_store,
)


def start_parent(config: TrackingConfig, name: str, jobs: int, varied: list[str]) -> None:
    """Create the store, the experiment and a sweep's parent run, before any job starts."""
    client = open_store(config)
    tags = {**config.tags, "sweep.jobs": str(jobs), VARIED_TAG: " ".join(varied)}
    os.environ[PARENT_VARIABLE] = create_run(client, config, config.run_name or name, tags)


def end_parent(interrupted: bool) -> str | None:
    """End the parent of a sweep as its jobs ended; one line of the outcome, None without a sweep."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return None
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(parent)
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=10_000
    )
    finished = sum(child.info.status == "FINISHED" for child in children)
    jobs = int(run.data.tags["sweep.jobs"])
    status = "KILLED" if interrupted else "FINISHED" if finished == jobs else "FAILED"
    client.set_terminated(parent, status)
    return f"{finished} of {jobs} jobs finished; sweep {parent}"
