"""What a sweep finds in the store: jobs that are done, jobs under way, runs left by a killed process.

A job is known by its identity, a process by its host, id and start time.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp import interrupts
from kernelexp.identity import DIGEST_TAG, Identity

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
FORMER_PARENTS_TAG = "sweep.former_parents"
PROCESS_TAG = "process"
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Finished:
    """A finished run that makes a job superfluous.

    Attributes:
        run: the run.
        note: what is to be said of it, empty for nothing: see ``Identity.accepts``.
    """

    run: Run
    note: str

    @property
    def run_id(self) -> str:
        """Its id."""
        return str(self.run.info.run_id)


def this_process() -> str:
    """Host, process id and start time, as the tag of a run that this process holds."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def finished_run(client: MlflowClient, experiment_id: str, job: Identity) -> Finished | None:
    """The newest finished run that makes the job superfluous."""
    for run in _runs(client, experiment_id, _of(job), "FINISHED"):
        if (note := job.accepts(run)) is not None:
            return Finished(run, note)
    return None


def finished_or_awaited(
    client: MlflowClient,
    experiment_id: str,
    job: Identity,
    waiting: Callable[[str], None],
    patience: float = 0.0,
) -> Finished | None:
    """``finished_run``; while another living process of this machine is at the job, wait for it.

    ``waiting`` is told that run's id, once. Such a process is another sweep, or a worker that outlives
    its killed launcher by the job it is at. ``patience``: seconds that the store may be away meanwhile.

    Raises:
        Exception: of the store.
    """
    told, away_since = False, None
    held: list[Run] = []
    while True:
        interrupts.check()
        try:
            under_way = _runs(client, experiment_id, _of(job), "RUNNING")
            held = [run for run in under_way if _is_held_by_another(run)]
            done = finished_run(
                client, experiment_id, job
            )  # after: one that ends now is not missed
            away_since = None
        except Exception:
            # The store went; the process that is at the job may well go on.
            away_since = away_since or time.monotonic()
            if not told or time.monotonic() > away_since + patience:
                raise
            done = None
        if done is not None or not held:
            return done
        if not told:
            waiting(held[0].info.run_id)
            told = True
        time.sleep(_POLL_SECONDS)


def link(client: MlflowClient, run: Run, parent: str) -> None:
    """Make a finished run a child of a sweep; the parents it had stay in a tag."""
    former = run.data.tags.get(PARENT_TAG, "none")
    if former == parent:
        return
    known = run.data.tags.get(FORMER_PARENTS_TAG, "").split()
    client.set_tag(run.info.run_id, FORMER_PARENTS_TAG, " ".join([*known, former]))
    client.set_tag(run.info.run_id, PARENT_TAG, parent)


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Mark as killed the running runs whose process, on this machine, is no more.

    Runs of other machines, and those of living processes, are left alone.
    """
    for found in _runs(client, experiment_id, "", "RUNNING"):
        if not _is_abandoned(found):
            continue
        run = client.get_run(found.info.run_id)  # meanwhile a process may have gone on with it
        if run.info.status == "RUNNING" and _is_abandoned(run):
            pid = _holder(run)[1]
            client.set_terminated(run.info.run_id, "KILLED")
            client.set_tag(run.info.run_id, "error", f"process {pid} ended without a word")


def is_alive(run: Run) -> bool:
    """Whether the process that holds a run may be at it: also where it is another machine's."""
    return not _is_abandoned(run)


def children(client: MlflowClient, experiment_id: str, parent: str) -> list[Run]:
    """The runs of a sweep, newest first, also those that a later sweep has made its own."""
    own = _runs(client, experiment_id, f"tags.`{PARENT_TAG}` = '{parent}'")
    lent = _runs(client, experiment_id, f"tags.`{FORMER_PARENTS_TAG}` LIKE '%{parent}%'")
    return own + [run for run in lent if run.data.tags.get(PARENT_TAG) != parent]


def _of(job: Identity) -> str:
    return f"tags.`{DIGEST_TAG}` = '{job.config}'"


def _runs(
    client: MlflowClient, experiment_id: str, condition: str, status: str | None = None
) -> list[Run]:
    conditions = [condition] if condition else []
    if status:
        conditions.append(f"attributes.status = '{status}'")
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            " and ".join(conditions),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def _is_held_by_another(run: Run) -> bool:
    host, pid, started = _holder(run)
    return host == socket.gethostname() and pid != os.getpid() and _started(pid) == started


def _is_abandoned(run: Run) -> bool:
    host, pid, started = _holder(run)
    return host == socket.gethostname() and _started(pid) != started


def _holder(run: Run) -> tuple[str, int, str]:
    """Host, process id and start time; of runs that are not ours a host that is none."""
    ours = re.fullmatch(r"(\S+) (\d{1,10}) (\S+)", run.data.tags.get(PROCESS_TAG, ""))
    return (ours[1], int(ours[2]), ours[3]) if ours else ("", 0, "")


def _started(pid: int) -> str | None:
    """When a process of this machine started, None where there is no such process.

    In clock ticks since boot, which tells a process from a later one of the same id; where the system
    does not say (no /proc), ``unknown``.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "unknown"
